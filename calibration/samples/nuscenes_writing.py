"""Generated drives in the format of nuScenes v1.0, with labels of Occ3D and instance ids beside.

    ROOT/v1.0-mini/*.json                           thirteen tables
    ROOT/samples/CAM_FRONT/NAME.jpg  LIDAR_TOP/NAME.pcd.bin
    ROOT/gts/SCENE/TOKEN/labels.npz                 Occ3D
    ROOT/occ3d_panoptic/SCENE/TOKEN/labels.npz      the same with instances

There are key frames only, no sweeps, no radar and no map. Tokens follow from names, so the same
drives give the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Array
from calibration.samples.drives import Box, Drive, KeyFrame
from calibration.samples.nuscenes import LIDAR
from calibration.samples.occ3d import INSTANCES, LABELS, MASKS, PANOPTIC, PLAIN, SEMANTICS
from calibration.samples.world.solids import Actor, Label, Matrix
from calibration.samples.writing_tables import Tables, placed, token_of
from exporters.errors import UserError

VERSION = "v1.0-mini"
JPEG_QUALITY = 95

CATEGORIES: Mapping[Label, str] = {
    Label.car: "vehicle.car",
    Label.truck: "vehicle.truck",
    Label.bus: "vehicle.bus.rigid",
    Label.trailer: "vehicle.trailer",
    Label.construction_vehicle: "vehicle.construction",
    Label.motorcycle: "vehicle.motorcycle",
    Label.bicycle: "vehicle.bicycle",
    Label.pedestrian: "human.pedestrian.adult",
    Label.traffic_cone: "movable_object.trafficcone",
    Label.barrier: "movable_object.barrier",
}

_VISIBILITY = (
    (0.4, "1", "v0-40"),
    (0.6, "2", "v40-60"),
    (0.8, "3", "v60-80"),
    (1.01, "4", "v80-100"),
)
_MOVING_M_S = 0.2


def write_nuscenes(
    drives: Sequence[Drive], root: Path, progress: Callable[[str, int, int], None] | None = None
) -> Path:
    """Write drives as a data set under ``root``, which must not exist yet or be empty.

    Raises:
        UserError: something lies there.
    """
    require_empty(root)
    root.mkdir(parents=True, exist_ok=True)
    tables = Tables()
    _constants(tables)
    done, total = 0, sum(len(drive) for drive in drives)
    for drive in drives:
        writer = _SceneWriter(tables, root, drive)
        for frame in drive:
            writer.add(frame)
            done += 1
            if progress:
                progress("write", done, total)
        writer.close()
    tables.write(root / VERSION)  # last: without tables an interrupted data set is none
    return root


def require_empty(root: Path) -> None:
    """Refuse to write into a folder that holds something."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} exists and is not empty", fix="Name another folder")


class _SceneWriter:
    """Rows and files of one drive."""

    def __init__(self, tables: Tables, root: Path, drive: Drive) -> None:
        self.tables, self.root, self.drive = tables, root, drive
        self.scene = token_of("scene", drive.name)
        self.samples: list[str] = []
        self.log = tables.add(
            "log",
            drive.name,
            logfile=drive.name,
            vehicle="",
            date_captured="",
            location="generated",
        )
        self.seen: dict[int, list[str]] = {}

    def add(self, frame: KeyFrame) -> None:
        """One key frame."""
        sample = self.tables.chain(
            "sample",
            self.scene,
            frame.name,
            timestamp=frame.timestamp_us,
            scene_token=self.scene,
        )
        self.samples.append(sample)
        rig = frame.cameras.rig
        for camera, time_us in zip(rig.cameras, frame.camera_times_us, strict=True):
            file = f"samples/{camera.name}/{frame.name}.jpg"
            _save_image(self.root / file, frame.cameras.images[camera.name])
            size = (camera.height, camera.width)
            poses = (camera.sensor2ego, camera.ego2global)
            self._data(sample, camera.name, file, time_us, poses, size, camera.intrinsics)
        file = f"samples/{LIDAR}/{frame.name}.pcd.bin"
        _save_points(self.root / file, frame.scan.points)
        poses = (self.drive.sensors.lidar2ego, frame.ego2global)
        self._data(sample, LIDAR, file, frame.timestamp_us, poses)
        for box in frame.boxes:
            self._annotate(sample, frame, box)
        _save_labels(self.root, frame.drive, sample, frame.cameras.labels)

    def close(self) -> None:
        """The rows that count what came before."""
        self.tables.add(
            "scene",
            self.drive.name,
            log_token=self.log,
            nbr_samples=len(self.samples),
            first_sample_token=self.samples[0],
            last_sample_token=self.samples[-1],
            name=self.drive.name,
            description=f"generated, world {self.drive.seed}, drive {self.drive.index}",
        )
        for number, tokens in self.seen.items():
            row = self.tables.rows["instance"][token_of("instance", self._who(number))]
            row |= {
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }

    def _who(self, number: int) -> str:
        return f"{self.drive.name}/{number}"

    def _data(
        self,
        sample: str,
        channel: str,
        file: str,
        time_us: int,
        poses: tuple[Matrix, Matrix],
        size: tuple[int, int] = (0, 0),
        intrinsics: Matrix | None = None,
    ) -> None:
        """One sensor at one key frame; ``poses`` are sensor to vehicle and vehicle to world."""
        modality = "lidar" if channel == LIDAR else "camera"
        sensor = self.tables.add("sensor", channel, channel=channel, modality=modality)
        mount = self.tables.add(
            "calibrated_sensor",
            f"{self.drive.name}/{channel}",
            sensor_token=sensor,
            **placed(poses[0]),
            camera_intrinsic=[] if intrinsics is None else intrinsics.tolist(),
        )
        pose = self.tables.add("ego_pose", file, timestamp=time_us, **placed(poses[1]))
        self.tables.chain(
            "sample_data",
            f"{self.scene}/{channel}",
            file,
            sample_token=sample,
            ego_pose_token=pose,
            calibrated_sensor_token=mount,
            timestamp=time_us,
            fileformat="pcd" if channel == LIDAR else "jpg",
            is_key_frame=True,
            height=size[0],
            width=size[1],
            filename=file,
        )

    def _annotate(self, sample: str, frame: KeyFrame, box: Box) -> None:
        actor, who = box.actor, self._who(box.number)
        cos, sin = np.cos(actor.yaw), np.sin(actor.yaw)
        stands = np.eye(4)
        stands[:2, :2] = [[cos, -sin], [sin, cos]]
        stands[:3, 3] = actor.centre
        length, width, height = actor.size
        label = Label(actor.label)
        instance = self.tables.add(
            "instance", who, category_token=token_of("category", CATEGORIES[label])
        )
        attribute = attribute_of(actor)
        token = self.tables.chain(
            "sample_annotation",
            who,
            f"{who}/{frame.name}",
            sample_token=sample,
            instance_token=instance,
            visibility_token=next(t for limit, t, _ in _VISIBILITY if box.visible < limit),
            attribute_tokens=[token_of("attribute", attribute)] if attribute else [],
            **placed(frame.ego2global @ stands),
            size=[width, length, height],
            num_lidar_pts=box.points,
            num_radar_pts=0,
        )
        self.seen.setdefault(box.number, []).append(token)


def _constants(tables: Tables) -> None:
    for name in CATEGORIES.values():
        tables.add("category", name, name=name, description="", index=0)
    for name in ("vehicle.moving", "vehicle.parked", "cycle.with_rider", "cycle.without_rider",
                 "pedestrian.moving", "pedestrian.standing"):  # fmt: skip
        tables.add("attribute", name, name=name, description="")
    for _, token, level in _VISIBILITY:
        tables.rows["visibility"][token] = {"token": token, "level": level, "description": ""}
    tables.add("map", "none", log_tokens=[], category="semantic_prior", filename="")


def attribute_of(actor: Actor) -> str:
    """What nuScenes would say that it does; nothing of cones and barriers."""
    label, moving = Label(actor.label), np.hypot(*actor.velocity) > _MOVING_M_S
    if label in (Label.traffic_cone, Label.barrier):
        return ""
    if label == Label.pedestrian:
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if label in (Label.bicycle, Label.motorcycle):
        return "cycle.with_rider" if moving else "cycle.without_rider"
    return "vehicle.moving" if moving else "vehicle.parked"


def _save_image(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=JPEG_QUALITY, subsampling=0)


def _save_points(path: Path, points: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)


def _save_labels(root: Path, scene: str, sample: str, labels: Mapping[str, Array]) -> None:
    plain = {name: labels[name] for name in (SEMANTICS, *MASKS)}
    sets = ((PLAIN, plain), (PANOPTIC, plain | {INSTANCES: labels[INSTANCES]}))
    for folder, arrays in sets:
        path = root / folder / scene / sample / LABELS
        path.parent.mkdir(parents=True)
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
