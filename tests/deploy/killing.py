"""A run that kills itself with SIGKILL at a chosen place: no handler, no clean-up, no second word.

    python -m tests.deploy.killing PLACE run recipe.yaml -o bundle

PLACE is the name of a stage, whose work is then done and not yet recorded; ``writing RELATIVE``
for a file of which half is written; or ``report``, ``swap`` and ``swapped`` at the end of the run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy import bundle, pipeline, stages
from deploy.cli import main
from exporters import files


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place: str) -> None:
    """Arrange for the end."""
    if place == "report":
        pipeline._write = kill  # type: ignore[assignment]
    elif place == "swap":
        bundle._take_the_place = kill  # type: ignore[assignment]
    elif place == "swapped":  # the old bundle is put aside, the new one not yet in its place
        replace = Path.replace

        def once(self: Path, target: Path) -> Path:
            if self.name.endswith(".partial") and self.is_dir():
                kill()
            return replace(self, target)

        Path.replace = once  # type: ignore[assignment, method-assign]
    elif place.startswith("writing "):
        _kill_while_writing(place.removeprefix("writing "))
    else:
        work = stages.StageStore._work

        def done(self: Any, name: str, *rest: Any) -> Any:
            result = work(self, name, *rest)
            if name == place:
                kill()
            return result

        stages.StageStore._work = done  # type: ignore[method-assign]


def _kill_while_writing(name: str) -> None:
    written = files.written_atomically

    @contextmanager
    def half(path: Path, **options: Any) -> Iterator[Path]:
        with written(path, **options) as temporary:
            if path.name == name:
                temporary.write_bytes(b"half of it")
                kill()
            yield temporary

    files.written_atomically = half


if __name__ == "__main__":
    kill_at(sys.argv[1])
    main(sys.argv[2:])
