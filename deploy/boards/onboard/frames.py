"""Whole frames on the board: from the picture to the answer, with edgeport's own code.

The code that prepares samples everywhere else is sent along, so a step means here what it means
there; it needs Python 3.10, and Pillow where pictures have to be decoded or resized.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import zipfile
from typing import Any, Dict, List

from .journal import BoardError, Journal

SINCE = (3, 10)


class FrameSession:
    """A session that is asked for frames by their number; ``time`` adds milliseconds by step."""

    def __init__(self, session: Any, preparing: Any) -> None:
        self._session = session
        self._preparing = preparing
        self.switches = session.switches

    def time(self, index: int) -> Dict[str, Any]:
        spent = self._preparing.frame(index, self._executed)
        return {"wall_ms": spent.total_ms, "steps_ms": dict(spent.steps_ms)}

    def _executed(self, feeds: Any) -> Any:
        outputs, spent_ms = self._session.answer(feeds)
        return outputs, {step: milliseconds / 1e3 for step, milliseconds in spent_ms.items()}


def preparers(job: Dict[str, Any], log: Journal) -> List[Any]:
    """Of each case what makes its frames; says which inputs differ from those of the host.

    Raises:
        BoardError: Python is too old, a library is missing, or the source is not to be read.
    """
    asked = job["frames"]
    if sys.version_info < SINCE:
        raise BoardError(
            "whole frames need Python 3.10 or newer on the board, it has "
            + ".".join(str(part) for part in sys.version_info[:3]),
            "Name another one: --board-python python3.10",
        )
    started = time.perf_counter()
    sys.path.insert(0, unpacked(asked["code"], asked["folder"]))
    pack = unpacked(asked["pack"], asked["folder"])
    sys.path.insert(1, os.path.join(pack, "own"))
    try:
        found = [_preparer(asked, index, pack, log) for index in range(len(job["cases"]))]
    except ImportError as error:
        raise BoardError(
            f"the board's Python lacks what frames are prepared with: {error}",
            f"There: {sys.executable} -m pip install numpy pillow",
        ) from error
    except Exception as error:
        if not hasattr(error, "fix"):  # an error of edgeport's own says what to do
            raise
        raise BoardError(f"frames on the board: {error}", error.fix) from error
    log.write("frames", ready_s=time.perf_counter() - started)
    return found


def unpacked(archive: str, folder: str) -> str:
    """The folder with what ``archive`` holds; complete or not there."""
    target = os.path.join(folder, os.path.basename(archive).split(".")[0])
    if not os.path.isdir(target):
        partial = f"{target}.{os.getpid()}.partial"
        os.makedirs(partial)
        with zipfile.ZipFile(archive) as file:
            file.extractall(partial)
        try:
            os.rename(partial, target)
        except OSError:  # another run was faster
            shutil.rmtree(partial)
    return target


def _preparer(asked: Dict[str, Any], index: int, pack: str, log: Journal) -> Any:
    import importlib

    module = importlib.import_module("deploy.endtoend.preparing")
    spec = importlib.import_module("exporters.modelfile").ModelSpec.from_metadata(
        asked["specs"][index]
    )
    source = os.path.join(pack, "frames")
    found = module.Preparing(spec, source, asked.get("post"), asked["count"])
    here = [module.digest_of(found.feeds(frame)) for frame in range(found.count)]
    expected = asked["digests"][index]
    differing = [f for f, (a, b) in enumerate(zip(here, expected)) if a != b]
    if len(here) != len(expected) or differing:
        log.write("frames_differ", case=index, frames=differing)
    return found
