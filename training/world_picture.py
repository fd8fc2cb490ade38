"""The picture of the generated world in the docs: six cameras, and occupancy from above.

python -m training.world_picture -o docs/images/world.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.samples.drives import Drive, KeyFrame, Sensors
from calibration.samples.synthetic import scaled
from calibration.samples.world.solids import Label, Matrix
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.rig import Rig

Pixels = NDArray[np.uint8]

_ROWS = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
_COLOURS = np.array(
    [
        (120, 120, 120), (255, 120, 50), (255, 192, 203), (255, 255, 0), (0, 150, 245),
        (0, 255, 255), (200, 180, 0), (255, 0, 0), (255, 240, 150), (135, 60, 0), (160, 32, 240),
        (90, 90, 95), (139, 137, 137), (160, 110, 160), (120, 170, 90), (215, 205, 190),
        (0, 130, 0), (255, 255, 255),
    ],
    float,
)  # fmt: skip
_ZOOM = 3


def from_above(frame: KeyFrame, lidar2ego: Matrix) -> Pixels:
    """Highest class of every column, pale where no camera sees, with LiDAR points; x is up."""
    labels = frame.cameras.labels
    taken = labels["semantics"] != Label.free
    top = taken.shape[2] - 1 - taken[:, :, ::-1].argmax(axis=2)
    kind = np.take_along_axis(labels["semantics"], top[..., None], axis=2)[..., 0]
    colours = _COLOURS[kind] * (0.75 + 0.25 * top / taken.shape[2])[..., None]
    unseen = ~labels["mask_camera"].any(axis=2)
    colours[unseen] = 0.55 * colours[unseen] + 0.45 * 255
    colours = colours.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    points = frame.scan.points[:, :3] @ lidar2ego[:3, :3].T + lidar2ego[:3, 3]
    cells = np.floor((points[:, :2] + 40) / 0.4 * _ZOOM).astype(int)
    cells = cells[((cells >= 0) & (cells < len(colours))).all(axis=1)]
    colours[cells[:, 0], cells[:, 1]] = 20
    picture: Pixels = colours[::-1, ::-1].astype(np.uint8)
    return picture


def main() -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    sensors = Sensors(Rig(tuple(scaled(camera, 480) for camera in nuscenes_like_rig().cameras)))
    frame = Drive(3, 1, 20, sensors).key_frame(4)
    images = frame.cameras.images
    cameras = np.concatenate([np.concatenate([images[n] for n in row], 1) for row in _ROWS], 0)
    above = Image.fromarray(from_above(frame, sensors.lidar2ego))
    square = np.asarray(above.resize((len(cameras), len(cameras)), Image.Resampling.BICUBIC))
    Image.fromarray(np.concatenate([cameras, square], 1)).save(output, quality=88)


if __name__ == "__main__":
    main()
