"""Detection metrics of one sample, for either model: what ``--metric`` finds by its name.

| name | value |
|---|---|
| ``kitti_2d``, ``kitti_bev``, ``kitti_3d`` | AP R40, moderate, mean over the model's classes |
| ``kitti_aos`` | the same of orientation similarity |
| ``nuscenes`` | ``nds`` first, then ``map`` |

All in percent. Evidence of a sample is what `kitti_matching` and `nuscenes_matching` found in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from calibration.samples.base import labels_of
from deploy.metrics.boxes.from_samples import (
    FoundBoxes,
    kitti_found,
    kitti_truth,
    nuscenes_found,
    nuscenes_truth,
)
from deploy.metrics.boxes.kitti_ap import ap_pool
from deploy.metrics.boxes.kitti_matching import (
    DIFFICULTIES,
    LEAST_OVERLAP,
    FrameEvidence,
    frame_evidence,
)
from deploy.metrics.boxes.kitti_objects import KINDS, Kind
from deploy.metrics.boxes.nuscenes_matching import RANGE_M, SampleEvidence, sample_evidence
from deploy.metrics.boxes.nuscenes_nds import (
    class_pool,
    map_pool,
    mean_of_known,
    nds_pool,
)
from deploy.metrics.paired import Pool
from deploy.metrics.pooled import ClassPools
from deploy.metrics.task import Arrays, Evidence, TaskMetric
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec

ORIENTATION = "aos"
_MODERATE = next(d for d in DIFFICULTIES if d.name == "moderate")


class OutputKitti:
    """AP of an output of boxes by KITTI's rules."""

    unit = "%"

    def __init__(self, kind: str, output: OutputSpec, classes: Sequence[str]) -> None:
        self._name = f"kitti_{kind}"
        self._kind: Kind = next((k for k in KINDS if k == kind), "2d")
        self._similarity = kind == ORIENTATION
        self._output = output
        self._classes = classes
        self._judged = [name for name in classes if name in LEAST_OVERLAP]
        if not self._judged:
            raise UserError(
                f"none of the model's classes is judged by KITTI: {', '.join(classes)}",
                fix=f"KITTI judges {', '.join(LEAST_OVERLAP)}",
            )

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Evidence:
        labels = labels_of(sample)
        truth = kitti_truth(labels)
        both = []
        for outputs in (reference, candidate):
            boxes = _boxes(outputs, self._output, self._classes)
            found = kitti_found(boxes, labels)
            judge = partial(frame_evidence, truth, found, self._kind, difficulty=_MODERATE)
            both.append({name: judge(class_name=name) for name in self._judged})
        return {self._name: (both[0], both[1])}

    def pool(self, key: str, rows: Sequence[Mapping[str, FrameEvidence]]) -> Pool:  # noqa: ARG002
        pools = [self._of_class(name, rows) for name in self._judged]
        return lambda times: mean_of_known(np.stack([pool(times) for pool in pools], axis=-1))

    def class_pools(
        self,
        key: str,  # noqa: ARG002
        reference: Sequence[Mapping[str, FrameEvidence]],
        candidate: Sequence[Mapping[str, FrameEvidence]],
    ) -> dict[str, ClassPools]:
        """AP of every class of which there is an object to find."""
        everywhere = list(range(len(reference)))
        return {
            name: ClassPools(
                (self._of_class(name, reference), self._of_class(name, candidate)), everywhere
            )
            for name in self._judged
            if any(frame[name].wanted for frame in reference)
        }

    def _of_class(self, name: str, rows: Sequence[Mapping[str, FrameEvidence]]) -> Pool:
        return ap_pool([frame[name] for frame in rows], similarity=self._similarity)


class OutputNuScenes:
    """NDS and mAP of an output of boxes by nuScenes' rules."""

    unit = "%"

    def __init__(self, output: OutputSpec, classes: Sequence[str]) -> None:
        self._output = output
        self._classes = classes
        if not set(classes) & RANGE_M.keys():
            raise UserError(
                f"none of the model's classes is judged by nuScenes: {', '.join(classes)}",
                fix=f"nuScenes judges {', '.join(RANGE_M)}",
            )

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Evidence:
        labels = labels_of(sample)
        truth = nuscenes_truth(labels)
        both = [
            dict(sample_evidence(truth, nuscenes_found(boxes, labels)))
            for boxes in (_boxes(o, self._output, self._classes) for o in (reference, candidate))
        ]
        return dict.fromkeys(("nds", "map"), (both[0], both[1]))

    def pool(self, key: str, rows: Sequence[Mapping[str, SampleEvidence]]) -> Pool:
        evidence = {name: [sample[name] for sample in rows] for name in RANGE_M}
        return map_pool(evidence) if key == "map" else nds_pool(evidence)

    def class_pools(
        self,
        key: str,
        reference: Sequence[Mapping[str, SampleEvidence]],
        candidate: Sequence[Mapping[str, SampleEvidence]],
    ) -> dict[str, ClassPools]:
        """AP, the mean of four distances, of every class of which there is an object to find."""
        everywhere = list(range(len(reference)))
        return {
            name: ClassPools((_average(name, reference), _average(name, candidate)), everywhere)
            for name in RANGE_M
            if key == "map" and any(sample[name].wanted for sample in reference)
        }


def _average(name: str, rows: Sequence[Mapping[str, SampleEvidence]]) -> Pool:
    of_sets = class_pool([sample[name] for sample in rows], errors=False)
    return lambda times: np.asarray(100 * of_sets(times).mean(axis=-1))


def _boxes(outputs: Arrays, output: OutputSpec, classes: Sequence[str]) -> FoundBoxes:
    return FoundBoxes.of_rows(outputs[output.name], output.details.get("columns", ()), classes)


def _kitti(kind: str) -> Callable[[ModelSpec | None], TaskMetric]:
    return lambda spec: OutputKitti(kind, *_box_output(spec, f"kitti_{kind}"))


def _nuscenes(spec: ModelSpec | None) -> TaskMetric:
    return OutputNuScenes(*_box_output(spec, "nuscenes"))


def _box_output(spec: ModelSpec | None, metric: str) -> tuple[OutputSpec, tuple[str, ...]]:
    for output in spec.outputs if spec is not None else ():
        if spec is not None and output.semantics == "boxes":
            return output, spec.classes
    raise UserError(
        f"the model file declares no output of boxes, which {metric} needs",
        fix="Export the model with edgeport, or name your own --metric module:function",
    )


DETECTION_METRICS: dict[str, Callable[[ModelSpec | None], TaskMetric]] = {
    **{f"kitti_{kind}": _kitti(kind) for kind in (*KINDS, ORIENTATION)},
    "nuscenes": _nuscenes,
}
