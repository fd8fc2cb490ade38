"""Which sources still have everything ahead of them that an application has to do.

Folders of pictures, nuScenes and KITTI roots, and sample folders are taken as they are. Frames of
the synthetic world are rendered once, at the cameras' own size, and written as JPEG, as a vehicle's
recorder would. A sample set is refused: its pictures are decoded and resized already.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from calibration.samples.base import Source
from calibration.samples.folders import DESCRIPTION, sample_folders
from calibration.samples.frames import FrameSamples
from calibration.samples.image_files import image_files
from calibration.samples.kitti import KittiRoot
from calibration.samples.nuscenes import NuScenesRoot
from calibration.samples.open import SYNTHETIC, holds_arrays, open_samples
from calibration.samples.synthetic import open_asked, parse_synthetic
from exporters.errors import UserError
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec
from runtimes.base import Progress

JPEG_QUALITY = 90
WHOLE_BYTES = 512 << 20
"""Of a data set's root that is sent to a board."""


def open_frames(source: str, spec: ModelSpec) -> Source:
    """The samples of ``source``, each decoded when it is asked for.

    Raises:
        UserError: a set of arrays, whose pictures are decoded already, or nothing at all.
    """
    path = Path(source)
    if path.exists() and holds_arrays(path):
        raise UserError(
            f"{source} holds arrays that are ready for the network: nothing is left to decode",
            fix="Give the pictures: a folder of images, a nuScenes or KITTI root, or synthetic:4",
        )
    return open_samples(source, spec)


def written_frames(
    source: str, spec: ModelSpec, folder: Path, progress: Progress | None = None
) -> str:
    """``source`` itself, or a folder of the frames that it would only render."""
    if source.split(":")[0] != SYNTHETIC:
        return source
    frames = open_asked(parse_synthetic(source), spec, camera_size=True)
    assert isinstance(frames, FrameSamples)  # the model takes camera images
    for number, frame in enumerate(frames.frames()):
        _write(frame, folder / frame.name)
        if progress:
            progress("render", number + 1, len(frames))
    return str(folder)


def pack_frames(source: str, spec: ModelSpec, folder: Path, count: int) -> int:
    """Write at most ``count`` frames of ``source`` so that ``open_frames`` reads them elsewhere.

    Pictures are copied as they are; surround cameras of a data set become sample folders, as JPEG.

    Returns:
        How many frames ``folder`` has now.

    Raises:
        UserError: a data set of points that is too large to be sent as a whole.
    """
    path = Path(source)
    if source.split(":")[0] == SYNTHETIC:
        written_frames(source, spec, folder)
        return min(count, len(open_frames(str(folder), spec)))
    samples = open_frames(source, spec)
    count = min(count, len(samples))
    if isinstance(samples, FrameSamples) and sample_folders(path):
        for one in sample_folders(path)[:count]:
            shutil.copytree(one, folder / one.name)
    elif isinstance(samples, FrameSamples):
        for frame in samples.subset(range(count)).frames():
            _write(frame, folder / frame.name)
    elif NuScenesRoot.find(path) is None and KittiRoot.find(path) is None:
        for file in image_files(path)[:count]:
            copy = folder / file.relative_to(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    else:
        _require_small(path)
        shutil.copytree(path, folder, dirs_exist_ok=True)
    return count


def _require_small(root: Path) -> None:
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    if size > WHOLE_BYTES:
        raise UserError(
            f"{root} is a data set of {size >> 20} MiB, and points are sent with their whole root",
            fix=f"Copy a few frames into a root of their own, at most {WHOLE_BYTES >> 20} MiB",
        )


def _write(frame: CameraFrame, folder: Path) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    cameras = {}
    for camera in frame.rig.cameras:
        name = f"{camera.name}.jpg"
        Image.fromarray(frame.images[camera.name]).save(folder / name, quality=JPEG_QUALITY)
        entry = camera.to_json()
        matrices = {key: entry[key] for key in ("intrinsics", "sensor2ego", "ego2global")}
        cameras[camera.name] = {"image": name, **matrices}
    (folder / DESCRIPTION).write_text(json.dumps({"cameras": cameras}))
