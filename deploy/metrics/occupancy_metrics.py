"""Occupancy metrics of one sample, for either model: what ``--metric`` finds by its name.

| name | needs of a sample, under ``label.`` |
|---|---|
| ``miou`` | ``semantics``, ``mask_camera`` |
| ``rayiou`` | ``semantics``, ``ray_origins`` |
| ``raypq`` | ``semantics``, ``instances``, ``ray_origins`` |

``rayiou`` and ``raypq`` give the mean over 1, 2 and 4 m first, then the three alone. ``raypq``
needs an output of the model with semantics ``instance-ids``, where 0 is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import labels_of
from calibration.samples.viewpoints import RAY_ORIGINS
from deploy.metrics.occupancy import (
    SEMANTICS,
    OccupancyMIoU,
    iou_parts,
    mean_iou,
    percent_of,
)
from deploy.metrics.paired import Float, sums_of
from deploy.metrics.pooled import ClassPools
from deploy.metrics.rays.casting import OCC3D_GRID, VoxelGrid
from deploy.metrics.rays.iou import (
    THRESHOLDS_M,
    SeenRays,
    mean_of_table,
    ray_counts,
    ray_iou,
    see,
)
from deploy.metrics.rays.pq import SEGMENT_KINDS, panoptic_quality, segment_counts
from deploy.metrics.task import (
    Array,
    Arrays,
    Evidence,
    SummedMetric,
    TaskMetric,
    occupancy_output,
)
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec
from exporters.panoptic_flashocc.centres import THING_CLASSES

INSTANCES = "instances"
_IDS = "instance-ids"  # semantics of the output


class OutputMIoU(SummedMetric):
    """mIoU of the output that holds occupancy labels or logits."""

    unit = "%"

    def __init__(self, output: OutputSpec, classes: int, names: Sequence[str] = ()) -> None:
        self._output = output
        self._classes = classes
        self._names = names
        self._free = output.details.get("free_class", classes - 1)

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Evidence:
        labels = labels_of(sample)
        return {"miou": (self._counts(reference, labels), self._counts(candidate, labels))}

    def _counts(self, outputs: Arrays, labels: Arrays) -> Float:
        alone = OccupancyMIoU(self._classes, self._free)
        alone.update(_labels(outputs, self._output), labels)
        return alone.confusion.counts.ravel().astype(np.float64)

    def value(self, sums: Float) -> Float:
        return mean_iou(sums.reshape(*sums.shape[:-1], self._classes, self._classes), self._free)

    def class_pools(
        self,
        key: str,  # noqa: ARG002
        reference: Sequence[Float],
        candidate: Sequence[Float],
    ) -> dict[str, ClassPools]:
        """IoU of every occupied class that occurs, from its hits and its union."""
        shape = (-1, self._classes, self._classes)
        both = [iou_parts(np.stack(rows).reshape(shape)) for rows in (reference, candidate)]
        found = {}
        for index, name in enumerate(self._names):
            parts = [part[:, index] for part in both]
            seen = np.flatnonzero(parts[0][:, 1] + parts[1][:, 1])
            if index != self._free and len(seen):
                first, second = (sums_of(part[seen], percent_of) for part in parts)
                found[name] = ClassPools((first, second), seen.tolist())
        return found


class OutputRays(SummedMetric):
    """Rays into occupancy labels, and into the ground truth that travels with a sample.

    Its value is the mean of a table of thresholds and classes.

    Raises:
        UserError: the free class is not the last one.
    """

    unit = "%"
    needs: tuple[str, ...] = (SEMANTICS, RAY_ORIGINS)

    def __init__(self, output: OutputSpec, classes: Sequence[str]) -> None:
        self._output = output
        self._names = classes[:-1]
        self._occupied = len(self._names)
        details = output.details
        free = details.get("free_class", self._occupied)
        if free != self._occupied:
            raise UserError(
                f"the free class of {output.name!r} is {free} of {len(classes)}, rays need the "
                "last one",
                fix="Number the classes as Occ3D does, free space last",
            )
        self._grid = (
            VoxelGrid(tuple(details["origin_m"]), float(details["voxel_m"][0]))
            if {"origin_m", "voxel_m"} <= details.keys()
            else OCC3D_GRID
        )

    def table(self, sums: Float) -> Float:
        """Percent ``[..., thresholds, classes]`` of sums ``[..., k]``."""
        raise NotImplementedError

    def value(self, sums: Float) -> Float:
        return mean_of_table(self.table(sums))

    def class_pools(
        self,
        key: str,  # noqa: ARG002
        reference: Sequence[Float],
        candidate: Sequence[Float],
    ) -> dict[str, ClassPools]:
        """The mean over the thresholds of every class that some ray met."""
        rows = [np.stack(part) for part in (reference, candidate)]
        first_met, second_met = (np.isfinite(self.table(part)).any(axis=-2) for part in rows)
        met: NDArray[np.bool_] = np.logical_or(first_met, second_met)
        found = {}
        for index, name in enumerate(self._names):
            seen = np.flatnonzero(met[:, index])
            if len(seen):
                first, second = (sums_of(part[seen], partial(self._of, index)) for part in rows)
                found[name] = ClassPools((first, second), seen.tolist())
        return found

    def _of(self, index: int, sums: Float) -> Float:
        return mean_of_table(self.table(sums)[..., index : index + 1])

    def _see(self, outputs: Arrays, labels: Mapping[str, Array]) -> SeenRays:
        absent = [key for key in self.needs if key not in labels]
        if absent:
            raise UserError(
                f"the sample has no ground truth {', '.join(absent)} "
                f"(it has {sorted(labels) or 'none'})",
                fix=f"This metric needs {', '.join(self.needs)}",
            )
        return see(
            _labels(outputs, self._output),
            labels[SEMANTICS],
            labels[RAY_ORIGINS],
            free=self._occupied,
            grid=self._grid,
        )


class OutputRayIoU(OutputRays):
    """RayIoU of the output that holds occupancy labels or logits."""

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Evidence:
        labels = labels_of(sample)
        counts = [ray_counts(self._see(o, labels), self._occupied) for o in (reference, candidate)]
        found = {"rayiou": (counts[0].ravel(), counts[1].ravel())}
        for index, threshold in enumerate(THRESHOLDS_M):
            first, second = (count[[0, 1, 2 + index]].ravel() for count in counts)
            found[f"rayiou@{threshold:g}"] = first, second
        return found

    def table(self, sums: Float) -> Float:
        return ray_iou(sums.reshape(*sums.shape[:-1], -1, self._occupied))


class OutputRayPQ(OutputRays):
    """RayPQ of an output with labels and one with instance ids."""

    needs = (SEMANTICS, INSTANCES, RAY_ORIGINS)

    def __init__(self, output: OutputSpec, ids: OutputSpec, classes: tuple[str, ...]) -> None:
        super().__init__(output, classes)
        self._ids = ids
        self._things = [index for index, name in enumerate(classes) if name in THING_CLASSES]

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Evidence:
        labels = labels_of(sample)
        counts = [self._counts(outputs, labels) for outputs in (reference, candidate)]
        found = {"raypq": (counts[0].ravel(), counts[1].ravel())}
        for index, threshold in enumerate(THRESHOLDS_M):
            first, second = (count[index].ravel() for count in counts)
            found[f"raypq@{threshold:g}"] = first, second
        return found

    def _counts(self, outputs: Arrays, labels: Arrays) -> Float:
        seen = self._see(outputs, labels)
        ids = outputs[self._ids.name]
        return segment_counts(seen, labels[INSTANCES], ids, self._occupied, self._things)

    def table(self, sums: Float) -> Float:
        shape = (*sums.shape[:-1], -1, self._occupied, SEGMENT_KINDS)
        return panoptic_quality(sums.reshape(shape))


def _labels(outputs: Arrays, output: OutputSpec) -> Array:
    prediction = outputs[output.name]
    return prediction.argmax(axis=-1) if output.semantics.endswith("logits") else prediction


def _miou(spec: ModelSpec | None) -> TaskMetric:
    output, classes = _occupancy(spec, "mIoU")
    return OutputMIoU(output, len(classes), classes)


def _rayiou(spec: ModelSpec | None) -> TaskMetric:
    return OutputRayIoU(*_occupancy(spec, "RayIoU"))


def _raypq(spec: ModelSpec | None) -> TaskMetric:
    output, classes = _occupancy(spec, "RayPQ")
    ids = instance_output(spec)
    if ids is None:
        raise UserError(
            "the model file declares no output of instance ids, which RayPQ needs",
            fix="Export a variant with -pano, or judge the labels with --metric rayiou",
        )
    return OutputRayPQ(output, ids, classes)


def instance_output(spec: ModelSpec | None) -> OutputSpec | None:
    """The output that numbers the instances, where a model has one."""
    outputs = spec.outputs if spec is not None else ()
    return next((output for output in outputs if output.semantics == _IDS), None)


def _occupancy(spec: ModelSpec | None, metric: str) -> tuple[OutputSpec, tuple[str, ...]]:
    output = occupancy_output(spec)
    if output is None or spec is None:
        raise UserError(
            f"the model file declares no occupancy output, which {metric} needs",
            fix="Export the model with edgeport, or name your own --metric module:function",
        )
    return output, spec.classes


OCCUPANCY_METRICS: dict[str, Callable[[ModelSpec | None], TaskMetric]] = {
    "miou": _miou,
    "rayiou": _rayiou,
    "raypq": _raypq,
}
