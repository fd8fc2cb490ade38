"""What was signed is checked whenever it is loaded: changed bytes are refused before any work.

    verify, build, bench, judge, report, diff, … BUNDLE
    verify, build, bench, inspect, …             BUNDLE/models/int8.onnx, or MODEL.onnx by itself

Without a key this shows that nothing was changed by accident: statement, manifest and files hold
together. Who made it is shown by a key: where ``EDGEPORT_TRUSTED_KEYS`` names public keys, bundles,
model files and engines that none of them signed are refused, unsigned ones included.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.bundle import MANIFEST, SIGNATURE
from deploy.provenance.signing import Subject, is_signed_with, require_intact, require_stated
from exporters.errors import UserError

TRUSTED = "EDGEPORT_TRUSTED_KEYS"
"""The environment variable: public keys, separated as in ``PATH``."""

_LOADED = (".onnx", ".engine")


def require_as_signed(path: Path) -> None:
    """Refuse what was changed since it was signed, or was signed by nobody who is trusted.

    Args:
        path: a bundle, a file in one, or a model file or engine by itself; anything else, and what
            is not there, is left to who reads it.

    Raises:
        UserError: what was changed, or whose signature is missing.
    """
    if not path.exists():
        return
    subject, keys = signed_subject(path), trusted_keys()
    if subject is None:
        if keys and (path.suffix in _LOADED or (path / MANIFEST).is_file()):
            raise UserError(
                f"{path} is not signed, and ${TRUSTED} asks for it",
                fix="edgeport sign it with a trusted key, or unset the variable",
            )
        return
    if keys and not any(is_signed_with(subject, key) for key in keys):
        raise UserError(
            f"{subject.path} was signed with none of the keys in ${TRUSTED}",
            fix="Ask its maker for the public key, or do not use it",
        )
    require_stated(subject)
    inside = subject.path.is_dir() and path.resolve() != subject.path
    require_intact(subject, path.resolve() if inside else None)


def signed_subject(path: Path) -> Subject | None:
    """The signed bundle that ``path`` is or lies in, or the signed file; None for neither."""
    own = Subject(path.resolve())
    if own.signature.is_file():
        return own
    for folder in own.path.parents:
        if (folder / MANIFEST).is_file():
            return Subject(folder) if (folder / SIGNATURE).is_file() else None
    return None


def trusted_keys() -> list[Path]:
    return [Path(key) for key in os.environ.get(TRUSTED, "").split(os.pathsep) if key]


def paths_in(values: Iterable[Any]) -> list[Path]:
    """Paths among the arguments of a command, those in lists included."""
    found: list[Path] = []
    for value in values:
        members = value if isinstance(value, (list, tuple)) else [value]
        found += [member for member in members if isinstance(member, Path)]
    return found
