"""Which sources still have everything ahead of them that an application has to do.

Folders of pictures, nuScenes and KITTI roots, and sample folders are taken as they are. Frames of
the synthetic world are rendered once, at the cameras' own size, and written as JPEG, as a vehicle's
recorder would. A sample set is refused: its pictures are decoded and resized already.
"""

from __future__ import annotations

import json
from pathlib import Path

from calibration.samples.base import Source
from calibration.samples.folders import DESCRIPTION
from calibration.samples.frames import FrameSamples
from calibration.samples.open import SYNTHETIC, holds_arrays, open_samples
from calibration.samples.synthetic import open_asked, parse_synthetic
from exporters.errors import UserError
from exporters.flashocc.rig import CameraFrame
from exporters.modelfile import ModelSpec
from runtimes.base import Progress

JPEG_QUALITY = 90


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
