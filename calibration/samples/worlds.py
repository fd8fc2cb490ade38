"""Generated drives as a data set of its own, in the format of a public one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calibration.samples.drives import Drive, Sensors
from calibration.samples.kitti_writing import kitti_sensors, write_kitti
from calibration.samples.nuscenes_writing import write_nuscenes
from calibration.samples.synthetic import parse_synthetic, scaled
from exporters.errors import UserError, did_you_mean
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.rig import Rig

Format = Literal["nuscenes", "kitti"]
FORMATS: tuple[Format, ...] = ("nuscenes", "kitti")
RIGS = {6: nuscenes_like_rig, 4: four_camera_rig}


@dataclass(frozen=True)
class WrittenWorld:
    """What was written.

    Attributes:
        drives, frames: number of drives, and of key frames in all.
    """

    root: Path
    drives: int
    frames: int


def write_world(
    source: str,
    output: Path,
    form: str,
    *,
    image_width: int | None = None,
    cameras: int = 6,
    progress: Callable[[str, int, int], None] | None = None,
) -> WrittenWorld:
    """Write generated drives in the format of a public data set.

    Args:
        source: ``synthetic:DRIVESxFRAMES[:SEED]``.
        output: folder that does not exist or is empty.
        form: a name of `FORMATS`.
        image_width: pixels; the cameras' own, 1600, without it.
        cameras: 6 as nuScenes has them, or 4; KITTI has one.

    Raises:
        UserError: an argument is wrong, or something lies in ``output``.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}", fix=did_you_mean(form, FORMATS))
    asked = parse_synthetic(source)
    if not asked.drives:
        raise UserError(
            f"{source!r} names single frames, a data set has drives",
            fix=f"Write synthetic:1x{asked.count}:{asked.seed}",
        )
    if cameras not in RIGS:
        raise UserError(f"no rig of {cameras} cameras", fix="Choose 4 or 6")
    rig = RIGS[cameras]()
    if form == "kitti" and (image_width is not None or cameras != 6):
        raise UserError("KITTI has one camera of 1242x375", fix="Leave size and cameras out")
    if image_width is not None:
        rig = Rig(tuple(scaled(camera, image_width) for camera in rig.cameras))
    sensors = Sensors(rig) if form == "nuscenes" else kitti_sensors()
    drives = [Drive(asked.seed, index, asked.count, sensors) for index in range(asked.drives)]
    write = write_nuscenes if form == "nuscenes" else write_kitti
    return WrittenWorld(write(drives, output, progress), asked.drives, asked.drives * asked.count)
