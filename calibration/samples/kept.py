"""Arrays by index on disk, up to a limit: what would be dear to make again in the next pass."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibration.samples.base import Array

KEPT_BYTES = 1 << 30
"""What one set may keep; what comes later is made anew in every pass."""


class KeptArrays:
    """Named arrays in a temporary folder, which goes when this does."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._files: dict[int, Path] = {}
        self._bytes = 0

    def get(self, index: int) -> dict[str, Array] | None:
        """What was put under ``index``; None for nothing, or no room."""
        if index not in self._files:
            return None
        with np.load(self._files[index], allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}

    def put(self, index: int, arrays: Mapping[str, Array]) -> None:
        """Keep ``arrays`` if there is room."""
        self._bytes += sum(value.nbytes for value in arrays.values())
        if self._bytes > KEPT_BYTES:
            return
        file = None
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="edgeport-samples-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            file = self._folder / f"{index}.npz"
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types its keywords as bool
        except OSError:  # no room: then it is made again
            self._bytes = KEPT_BYTES
            if file is not None:
                file.unlink(missing_ok=True)
            return
        self._files[index] = file
