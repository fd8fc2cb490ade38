"""What is sent to a board as one file: ``onboard``, a zip that ``python3`` runs, and sources."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from exporters.files import sha256_bytes

PACKAGE = Path(__file__).with_name("onboard")
CODE = ("exporters", "calibration", "runtimes", "deploy")
_CODE_SUFFIXES = (".py", ".json", ".toml")
_MAIN = b"from onboard.main import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day a zip knows
_MODE = 0o644 << 16


@cache
def runner() -> bytes:
    """The zip: package ``onboard``, and a ``__main__.py`` that calls it."""
    sources = {f"{PACKAGE.name}/{p.name}": p.read_bytes() for p in sorted(PACKAGE.glob("*.py"))}
    return zipped({"__main__.py": _MAIN, **sources})


@cache
def own_code() -> bytes:
    """Edgeport's own sources, without weights: what frames are prepared with on a board."""
    members = {}
    for package in CODE:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted(p for p in root.rglob("*") if p.suffix in _CODE_SUFFIXES):
            members[f"{package}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return zipped(members)


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A zip of ``members``; the same ones give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.external_attr = _MODE
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return buffer.getvalue()


def runner_name() -> str:
    return f"{sha256_bytes(runner())}.pyz"
