"""``onboard`` as one file: a zip that ``python3`` runs; the same sources give the same bytes."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

from exporters.files import sha256_bytes

PACKAGE = Path(__file__).with_name("onboard")
_MAIN = b"from onboard.main import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day a zip knows
_MODE = 0o644 << 16


@cache
def runner() -> bytes:
    """The zip: package ``onboard``, and a ``__main__.py`` that calls it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {"__main__.py": _MAIN}
        members |= {
            f"{PACKAGE.name}/{p.name}": p.read_bytes() for p in sorted(PACKAGE.glob("*.py"))
        }
        for name, data in members.items():
            member = zipfile.ZipInfo(name, _EPOCH)
            member.external_attr = _MODE
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return buffer.getvalue()


def runner_name() -> str:
    return f"{sha256_bytes(runner())}.pyz"
