"""What a Dask worker on a board does for a job; sent to it by value, so only the standard library.

The board's cache and the runner are those of a job over SSH, so both may serve one board.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """``function`` with what was sent before it, large files among it."""
    return function(*arguments)


def probe(python: str, cache: str, runner: str, data: bytes) -> dict[str, Any]:
    """``{"cache": absolute path, "code", "out", "err"}`` of the runner's own probe."""
    root = Path.home() / cache
    for folder in ("files", "jobs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    store(str(root), runner, data)
    command = [python, str(_file(str(root), runner)), "probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return {"cache": str(root), "code": 127, "out": "", "err": str(error)}
    return {"cache": str(root), "code": done.returncode, "out": done.stdout, "err": done.stderr}


def missing(cache: str, sizes: dict[str, int]) -> list[str]:
    """Files that the cache does not have with this size."""
    files = {name: _file(cache, name) for name in sizes}
    return [
        name
        for name, file in files.items()
        if not file.exists() or file.stat().st_size != sizes[name]
    ]


def store(cache: str, name: str, data: bytes) -> None:
    """Write a file of the cache; half of one never stands under its name."""
    if missing(cache, {name: len(data)}):
        handle, partial = tempfile.mkstemp(dir=Path(cache) / "files")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(partial).replace(_file(cache, name))


def run(python: str, cache: str, runner: str, request: dict[str, Any]) -> dict[str, Any]:
    """Do the job; its log as text, its archives by name, and what its runner said last."""
    folder = Path(tempfile.mkdtemp(dir=Path(cache) / "jobs"))
    try:
        (folder / "job.json").write_text(json.dumps(request), encoding="utf-8")
        command = [python, str(_file(cache, runner)), "job", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        log = folder / "log.jsonl"
        return {
            "log": log.read_text(encoding="utf-8") if log.exists() else "",
            "files": {file.name: file.read_bytes() for file in folder.glob("outputs-*.npz")},
            "said": (done.stdout + done.stderr)[-600:],
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file(cache: str, name: str) -> Path:
    return Path(cache) / "files" / name
