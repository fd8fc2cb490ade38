"""Weights that come with edgeport: the miniatures, trained on generated scenes.

Scripts under ``training/`` made them and ``docs/training.md`` tells how well they see. They know
the generated world and no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.errors import UserError, did_you_mean

WEIGHTS = ("trained", "random")


@dataclass(frozen=True)
class Shipped:
    """The trained weights of a family.

    Attributes:
        folder: that they lie in.
        files: variant to file.
        made_for: what of a network they are for, "its own grid and classes".
    """

    folder: Path
    files: Mapping[str, str]
    made_for: str

    def find(self, variant: str, asked: str | None, changed: Mapping[str, bool]) -> Path | None:
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
        if variant not in self.files:
            if asked is None:
                return None
            raise UserError(
                f"no trained weights of {variant} come with edgeport",
                fix=f"Choose one of {', '.join(self.files)}, or pass --checkpoint FILE",
            )
        others = [f"--{name.replace('_', '-')}" for name, differs in changed.items() if differs]
        if others:
            raise UserError(
                f"the trained weights of {variant} are for {self.made_for}, not for what "
                f"{' and '.join(others)} would make of them",
                fix=f"Leave {' and '.join(others)} out, or add --weights random",
            )
        return self.folder / self.files[variant]

    def holds(self, path: Path) -> bool:
        """Whether a file is one of these."""
        return path.parent == self.folder


def how_trained(path: Path) -> str:
    """What a file of ``training`` says of itself, for a person."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        plan: dict[str, Any] = json.loads(file.metadata()["plan"])
    return (
        f"trained on the generated world of seed {plan['seed']} "
        f"({plan['frames']} frames, {plan['steps']} steps)"
    )
