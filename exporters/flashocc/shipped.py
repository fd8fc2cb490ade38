"""Weights that come with edgeport: the miniatures, trained on generated scenes.

``training/flashocc_mini.py`` made them and ``docs/training.md`` tells how well they see. One file
serves ``flashocc-mini`` and, with its centre head, ``panoptic-flashocc-mini``. They know the
generated world and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporters.errors import UserError, did_you_mean

WEIGHTS = ("trained", "random")

_FOLDER = Path(__file__).parent / "trained"
_FILES: Mapping[str, str] = {
    "flashocc-mini": "mini.safetensors",
    "panoptic-flashocc-mini": "mini.safetensors",
}


def trained_weights(variant: str, asked: str | None, changed: Mapping[str, bool]) -> Path | None:
    """The file that comes with edgeport for ``variant``; None for random weights.

    Args:
        asked: ``trained`` or ``random``; None for trained ones where there are any.
        changed: option name to whether it makes the network another one than was trained.

    Raises:
        UserError: unknown choice, no trained weights for this variant, or they do not fit.
    """
    if asked is not None and asked not in WEIGHTS:
        raise UserError(f"unknown weights {asked!r}", fix=did_you_mean(asked, WEIGHTS))
    if asked == "random":
        return None
    if variant not in _FILES:
        if asked is None:
            return None
        raise UserError(
            f"no trained weights of {variant} come with edgeport",
            fix=f"Choose one of {', '.join(_FILES)}, or pass --checkpoint FILE",
        )
    others = [f"--{name}" for name, differs in changed.items() if differs]
    if others:
        raise UserError(
            f"the trained weights of {variant} are for its own grid, classes and depth bins, not "
            f"for what {' and '.join(others)} would make of them",
            fix=f"Leave {' and '.join(others)} out, or add --weights random",
        )
    return _FOLDER / _FILES[variant]


def comes_with_edgeport(path: Path) -> bool:
    return path.parent == _FOLDER


def how_trained(path: Path) -> str:
    """What a file of `training` says of itself, for a person."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        plan: dict[str, Any] = json.loads(file.metadata()["plan"])
    return (
        f"trained on the generated world of seed {plan['seed']} "
        f"({plan['frames']} frames, {plan['steps']} steps)"
    )
