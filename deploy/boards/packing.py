"""What a board needs for whole frames: a few frames, edgeport's sources, the user's own module.

What the inputs of every frame are here is said by hash, so that the board can tell whether its
decoder and resizer give the same.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from calibration.samples.sets import spec_for
from deploy.boards.bundling import own_code, zipped
from deploy.boards.jobs import FramePlan
from deploy.endtoend.benching import Question
from deploy.endtoend.frames import pack_frames
from deploy.endtoend.preparing import Preparing, digest_of
from exporters.errors import UserError

FRAMES = 8
"""Used in turn; each is decoded and prepared anew every time."""


def frame_plan(models: Sequence[Path], question: Question, count: int = FRAMES) -> FramePlan:
    """Frames of ``question`` for ``models``.

    Raises:
        UserError: a source without frames, or a function that cannot be sent.
    """
    specs = [spec_for(model, None, question.describe, source=question.source) for model in models]
    with tempfile.TemporaryDirectory(prefix="edgeport-frames-") as scratch:
        folder = Path(scratch) / "frames"
        folder.mkdir()
        count = pack_frames(question.source, specs[0], folder, count)
        digests = []
        for spec in specs:
            prepared = Preparing(spec, str(folder), question.post, count)
            digests.append([digest_of(prepared.feeds(frame)) for frame in range(count)])
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        members = {str(p.relative_to(scratch).as_posix()): p.read_bytes() for p in files}
    if question.post is not None:
        own = _module_file(question.post)
        members[f"own/{own.name}"] = own.read_bytes()
    metadata = [spec.to_metadata() for spec in specs]
    return FramePlan(own_code(), zipped(members), count, metadata, digests, question.post)


def _module_file(post: str) -> Path:
    """The one file that holds the user's function, which ``answer_of`` has imported."""
    name = post.partition(":")[0]
    module = sys.modules.get(name) or importlib.import_module(name)
    file = Path(str(module.__file__))
    if "." in name or file.name == "__init__.py":
        raise UserError(
            f"--post {post}: {name!r} is part of a package, and one file is sent to the board",
            fix="Put the function into a module of its own that needs numpy alone",
        )
    return file
