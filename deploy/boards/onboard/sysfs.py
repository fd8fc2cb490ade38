"""Reading the kernel's files below a root, which is ``/`` on a board and a folder in a test."""

from __future__ import annotations

import glob
import os
from typing import List, Optional


class Tree:
    """Files by their absolute path on a board; what cannot be read is None."""

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")

    def text(self, path: str) -> Optional[str]:
        try:
            with open(self._root + path, encoding="utf-8", errors="replace") as file:
                return file.read().strip("\0\n ")
        except OSError:  # also EAGAIN of a sensor that has no power
            return None

    def number(self, path: str) -> Optional[float]:
        try:
            return float(self.text(path) or "")
        except ValueError:
            return None

    def glob(self, pattern: str) -> List[str]:
        found = glob.glob(glob.escape(self._root) + pattern)
        return sorted(path[len(self._root) :] for path in found)

    def refused(self, path: str) -> bool:
        """Whether the file is there and cannot be read, most often by this user."""
        return os.path.exists(self._root + path) and self.text(path) is None
