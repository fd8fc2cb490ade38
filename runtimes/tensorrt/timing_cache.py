"""Which timing cache belongs to which GPU and TensorRT, told before a build begins.

A timing cache holds how long each kernel took on one GPU with one TensorRT; the builder that gets
it measures only what is missing, so builds become fast and, all kernels being known, repeatable.
Its own bytes are TensorRT's; ``FILE.key.json`` beside it says whose they are.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from exporters.errors import UserError
from exporters.files import written_atomically

SCHEMA = "edgeport.timing-cache/1"


@dataclass(frozen=True)
class CacheKey:
    """Kernel times hold for this and nothing else; ``gpu`` is empty where it is not known."""

    runtime: str
    version: str
    gpu: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.version} on {self.gpu or 'an unknown GPU'}"


def key_path(cache: Path) -> Path:
    return cache.with_name(cache.name + ".key.json")


def require_usable(cache: Path, key: CacheKey, *, strict: bool) -> None:
    """Refuse the cache of another GPU or TensorRT, and a strict build without any.

    A cache without a key file, one of trtexec's for example, is left to TensorRT's own check.

    Raises:
        UserError: names both sides.
    """
    if strict and not cache.is_file():
        raise UserError(
            f"there is no timing cache at {cache}, and a strict build measures no kernel",
            fix="Build once without --strict-timing-cache; that writes the file",
        )
    if not cache.is_file() or not key_path(cache).is_file():
        return
    try:
        values = json.loads(key_path(cache).read_text(encoding="utf-8"))
        found = CacheKey(values["runtime"], values["version"], values["gpu"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{key_path(cache)} is damaged: {error!r}", fix=f"Remove {cache} and build again"
        ) from error
    if found != key:
        raise UserError(
            f"the timing cache {cache} was measured by {found}; here is {key}",
            fix="Give each GPU and TensorRT release a file of its own: --timing-cache FILE",
        )


def store(cache: Path, measured: Path, key: CacheKey) -> None:
    """Put the bytes at ``measured`` in the place of ``cache``, with the key beside them."""
    with written_atomically(cache, overwrite=True) as target:
        target.write_bytes(measured.read_bytes())
    with written_atomically(key_path(cache), overwrite=True) as target:
        target.write_text(
            json.dumps({"schema": SCHEMA, **asdict(key)}, indent=2) + "\n", encoding="utf-8"
        )
