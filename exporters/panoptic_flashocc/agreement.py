"""Does the exported graph compute what the trained network computes? Asked before it is written.

Logits, labels and centre maps are compared with eager PyTorch as in
``exporters.flashocc.agreement``. Instances are a decision after a decision: two peaks whose scores
differ in the last bit may change places. So they are compared with the numpy form
(``exporters.panoptic_flashocc.centres``) on the graph's own labels and centre maps, where every
voxel must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import EdgeportError
from exporters.flashocc.agreement import RELATIVE_TOLERANCE, Agreement, compare_logits, open_graph
from exporters.panoptic_flashocc.centres import (
    CentreRules,
    assign_instances,
    decode_centres,
    thing_channels,
)
from exporters.panoptic_flashocc.config import PanopticConfig
from exporters.panoptic_flashocc.memory import Memory, stand_in
from exporters.panoptic_flashocc.model import PanopticFlashOcc, Predictions
from exporters.panoptic_flashocc.ports import BEV, CAMERA_VECTORS, LENGTH, MOTION, history_names

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

Array = NDArray[Any]
Planes = Callable[[Array], "Tensor"]
_MAPS = ("reg", "height", "heatmap")


@dataclass(frozen=True)
class PanopticAgreement:
    """Exported graph against eager PyTorch, all samples together.

    Attributes:
        map_difference: largest difference of a centre map or BEV map, relative to the map's
            standard deviation.
        instances: voxels with an instance.
        instance_exceptions: voxels whose instance is not that of the numpy form.
    """

    occupancy: Agreement
    map_difference: float
    instances: int
    instance_exceptions: int

    @property
    def holds(self) -> bool:
        maps = self.map_difference <= RELATIVE_TOLERANCE
        return self.occupancy.holds and maps and self.instance_exceptions == 0

    def to_json(self) -> dict[str, Any]:
        values = {key: value for key, value in asdict(self).items() if key != "occupancy"}
        return {**self.occupancy.to_json(), **values, "holds": self.holds}

    def __str__(self) -> str:
        return (
            f"{self.occupancy}; maps differ by {self.map_difference:.2g} of their spread; "
            f"{self.instance_exceptions} of {self.instances} voxels are of another instance"
        )


def compare(
    network: PanopticFlashOcc,
    config: PanopticConfig,
    rules: CentreRules,
    proto: onnx.ModelProto,
    samples: Iterable[Mapping[str, Array]],
    planes: Planes,
    cameras: NDArray[np.float32],
) -> PanopticAgreement:
    """Run both on every sample.

    Args:
        network: as trained, in eval mode.
        proto: the exported graph.
        samples: inputs of the graph, states included.
        planes: images of a sample to the network's normalised planes.
        cameras: vectors of the baked rig.
    """
    session, names = _session(proto, config)
    results = []
    for sample in samples:
        found = dict(zip(names, session.run(list(names.values()), dict(sample)), strict=True))
        given = {CAMERA_VECTORS: cameras, **sample}
        predictions, bev = _eager(network, config, given, planes)
        results.append(_compare_one(predictions, bev, found, config, rules))
    if not results:
        raise EdgeportError("no sample to compare the exported graph on")
    return PanopticAgreement(
        Agreement.over([result.occupancy for result in results]),
        max(result.map_difference for result in results),
        sum(result.instances for result in results),
        sum(result.instance_exceptions for result in results),
    )


def _compare_one(
    predictions: Predictions,
    bev: NDArray[np.float32],
    found: Mapping[str, Array],
    config: PanopticConfig,
    rules: CentreRules,
) -> PanopticAgreement:
    logits = found["logits"] if "logits" in found else found["volume"].transpose(3, 2, 0, 1)
    labels = found.get("labels", logits.argmax(-1).astype(np.uint8))
    differences = []
    if BEV in found:
        differences.append(relative_difference(found[BEV], bev))
    if predictions.centres is not None:
        eager = zip(_MAPS, predictions.centres, strict=True)
        differences += [relative_difference(found[name], value.numpy()) for name, value in eager]
    instances = exceptions = 0
    if "instances" in found:
        reg, height, heatmap = (found[name] for name in _MAPS)
        centres = decode_centres(reg, height, heatmap, config.grid, rules)
        channels = thing_channels(config.classes, rules.class_map)
        expected = assign_instances(labels, centres, channels, rules.thing_voxels)
        instances = int(np.count_nonzero(expected))
        exceptions = int(np.count_nonzero(expected != found["instances"]))
    occupancy = compare_logits(predictions.logits.numpy(), logits, labels)
    return PanopticAgreement(occupancy, max(differences, default=0.0), instances, exceptions)


def relative_difference(found: Array, expected: Array) -> float:
    """Largest difference, relative to the standard deviation of ``expected``."""
    return float(np.abs(found - expected).max() / (expected.std() + 1e-12))


def _eager(
    network: PanopticFlashOcc, config: PanopticConfig, given: Mapping[str, Array], planes: Planes
) -> tuple[Predictions, NDArray[np.float32]]:
    import torch

    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in given.items()
        if name != "images"
    }
    tables = [tensor for name, tensor in tensors.items() if name.startswith("rig_")]
    with torch.no_grad():
        bev = network.bev_map(planes(given["images"]), *tables, cameras=tensors[CAMERA_VECTORS])
        past = []
        if config.history:
            history = [tensors[name] for name in history_names(config.history)]
            if MOTION in tensors:
                past = Memory(config.grid)(bev, history, tensors[MOTION], tensors[LENGTH])
            else:
                past = stand_in(bev, history, tensors[LENGTH])
        return network.predict(bev, past), bev.numpy()


def _session(proto: onnx.ModelProto, config: PanopticConfig) -> tuple[Any, dict[str, str]]:
    """The graph with its centre maps as outputs, also where it returns instances."""
    inner = {}
    if config.centres and any(value.name == "instances" for value in proto.graph.output):
        by_name = {node.name: node.output[0] for node in proto.graph.node}
        prefix = "aux_centerness_head/task_heads.0/"
        inner = {name: by_name[f"{prefix}{name}.1/Conv"] for name in _MAPS}
    return open_graph(proto, inner)
