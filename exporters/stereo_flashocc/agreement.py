"""Does the exported graph compute what the trained stereo network computes?

Logits, labels, map and stereo feature against eager PyTorch, as ``exporters.flashocc.agreement``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.agreement import RELATIVE_TOLERANCE, Agreement, compare_logits, open_graph
from exporters.panoptic_flashocc.agreement import Planes, relative_difference
from exporters.panoptic_flashocc.memory import Memory
from exporters.stereo_flashocc.config import StereoConfig
from exporters.stereo_flashocc.cost_volume import CostVolume
from exporters.stereo_flashocc.model import StereoFlashOcc
from exporters.stereo_flashocc.ports import (
    BEV,
    CAMERA_VECTORS,
    LENGTH,
    MOTION,
    PAST_BEV,
    PAST_STEREO,
    STEREO,
    STEREO_MOTION,
)

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]


@dataclass(frozen=True)
class StereoAgreement:
    """Exported graph against eager PyTorch, all samples together.

    Attributes:
        map_difference: largest difference of a BEV map or stereo feature, relative to its standard
            deviation.
    """

    occupancy: Agreement
    map_difference: float

    @property
    def holds(self) -> bool:
        return self.occupancy.holds and self.map_difference <= RELATIVE_TOLERANCE

    def to_json(self) -> dict[str, Any]:
        values = {key: value for key, value in asdict(self).items() if key != "occupancy"}
        return {**self.occupancy.to_json(), **values, "holds": self.holds}

    def __str__(self) -> str:
        return f"{self.occupancy}; maps differ by {self.map_difference:.2g} of their spread"


def compare(
    network: StereoFlashOcc,
    config: StereoConfig,
    proto: onnx.ModelProto,
    samples: Iterable[Mapping[str, Array]],
    planes: Planes,
    cameras: NDArray[np.float32],
) -> StereoAgreement:
    """Run both on every sample.

    Args:
        planes: images of a sample to the network's normalised planes.
        cameras: vectors of the baked rig.
    """
    session, names = open_graph(proto)
    occupancy, differences = [], []
    for sample in samples:
        found = dict(zip(names, session.run(list(names.values()), dict(sample)), strict=True))
        logits, bev, stereo = _eager(network, config, {CAMERA_VECTORS: cameras, **sample}, planes)
        ours = found["logits"] if "logits" in found else found["volume"].transpose(3, 2, 0, 1)
        labels = found.get("labels", ours.argmax(-1).astype(np.uint8))
        occupancy.append(compare_logits(logits, ours, labels))
        differences += [
            relative_difference(found[BEV], bev),
            relative_difference(found[STEREO], stereo),
        ]
    return StereoAgreement(Agreement.over(occupancy), max(differences))


def _eager(
    network: StereoFlashOcc, config: StereoConfig, given: Mapping[str, Array], planes: Planes
) -> tuple[NDArray[np.float32], Array, Array]:
    import torch

    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in given.items()
        if name != "images"
    }
    tables = [tensor for name, tensor in tensors.items() if name.startswith("rig_")]
    with torch.no_grad():
        stereo, feature = network.see(planes(given["images"]))
        known = bool(tensors[LENGTH][0] >= 1)
        before = tensors[PAST_STEREO] if known else stereo
        cost = CostVolume(config.view)(stereo, before, tensors[STEREO_MOTION])
        bev = network.bev_map(feature, cost, tensors[CAMERA_VECTORS], *tables)
        (past,) = Memory(config.grid)(bev, [tensors[PAST_BEV]], tensors[MOTION], tensors[LENGTH])
        return network.predict(past, bev).numpy(), bev.numpy(), stereo.numpy()
