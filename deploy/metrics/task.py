"""The number that a task is judged by: occupancy mIoU, or what a user names.

A task metric looks at one sample at a time and gives, for either model, a row of numbers that add
up over samples; the value of a set is a function of the sums. So memory holds one row a sample, and
`deploy.metrics.paired` can ask what other sets would have given. `deploy.metrics.own` has the forms
of a user's metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import labels_of
from deploy.metrics.occupancy import MASK_CAMERA, SEMANTICS, OccupancyMIoU, mean_iou
from deploy.metrics.own import OwnMetric, load_metric
from deploy.metrics.paired import Float, mean
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelSpec, OutputSpec

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Rows = dict[str, tuple[Float, Float]]
"""By the name of a number: the reference's row and the candidate's."""


class TaskMetric(Protocol):
    """Numbers of which higher is better."""

    @property
    def unit(self) -> str: ...

    def rows(
        self, reference: Arrays, candidate: Arrays, sample: Arrays, sample_name: str = ""
    ) -> Rows:
        """What one sample adds; empty where it has nothing to judge.

        Args:
            reference, candidate: outputs of either model by name.
            sample: inputs, and ground truth under keys with the prefix ``label.``.
        """
        ...

    def value(self, sums: Float) -> Float:
        """Of sums ``[..., k]`` of either model's rows; NaN where nothing was seen to judge."""
        ...


class OutputMIoU:
    """mIoU of the output that holds occupancy labels or logits."""

    unit = "%"

    def __init__(self, output: OutputSpec, classes: int) -> None:
        self._output = output
        self._classes = classes
        self._free = output.details.get("free_class", classes - 1)

    def rows(
        self,
        reference: Arrays,
        candidate: Arrays,
        sample: Arrays,
        sample_name: str = "",  # noqa: ARG002
    ) -> Rows:
        labels = labels_of(sample)
        return {"miou": (self._counts(reference, labels), self._counts(candidate, labels))}

    def _counts(self, outputs: Arrays, labels: Arrays) -> Float:
        prediction = outputs[self._output.name]
        if self._output.semantics.endswith("logits"):
            prediction = prediction.argmax(axis=-1)
        alone = OccupancyMIoU(self._classes, self._free)
        alone.update(prediction, labels)
        return alone.confusion.counts.ravel().astype(np.float64)

    def value(self, sums: Float) -> Float:
        return mean_iou(sums.reshape(*sums.shape[:-1], self._classes, self._classes), self._free)


class OwnTaskMetric:
    """A user's metric, averaged over the samples."""

    def __init__(self, own: OwnMetric) -> None:
        self._own = own
        self.unit = own.unit

    def rows(
        self, reference: Arrays, candidate: Arrays, sample: Arrays, sample_name: str = ""
    ) -> Rows:
        ours = self._own.of_reference(reference, sample, sample_name)
        theirs = self._own.of_candidate(reference, candidate, sample, sample_name)
        if self._own.form == "set":  # one of the two may find nothing to judge
            ours, theirs = ({k: s[k] for k in ours.keys() & theirs.keys()} for s in (ours, theirs))
        if ours.keys() != theirs.keys():
            raise UserError(
                f"--metric {self._own.name} gave {sorted(ours)} for the reference and "
                f"{sorted(theirs)} for the candidate on sample {sample_name!r}",
                fix="Return the same names for both",
            )
        return {key: (np.array([ours[key], 1.0]), np.array([theirs[key], 1.0])) for key in ours}

    def value(self, sums: Float) -> Float:
        return mean(sums)

    def whole_set(self) -> tuple[Any, Any] | None:
        """Two fresh instances of a class, which sees the whole set; None for a function."""
        target = self._own.target
        return (target(), target()) if self._own.form == "set" else None


def find_metric(name: str, spec: ModelSpec | None) -> TaskMetric:
    """The metric called ``name``, or the function or class at ``module:attribute``.

    Raises:
        UserError: no such metric, module or attribute, or the model has no output it could judge.
    """
    if ":" in name:
        return OwnTaskMetric(load_metric(name))
    if name not in BUILT_IN:
        raise UserError(
            f"unknown metric {name!r}", fix=did_you_mean(name, [*BUILT_IN, "module:function"])
        )
    return BUILT_IN[name](spec)


def _miou(spec: ModelSpec | None) -> TaskMetric:
    output = occupancy_output(spec)
    if output is None or spec is None:
        raise UserError(
            "the model file declares no occupancy output, which mIoU needs",
            fix="Export the model with edgeport, or name your own --metric module:function",
        )
    return OutputMIoU(output, len(spec.classes))


BUILT_IN = {"miou": _miou}


def default_metric(spec: ModelSpec | None) -> str | None:
    """The metric of the model's task, where there is one."""
    return "miou" if occupancy_output(spec) is not None else None


def has_ground_truth(labels: Arrays, spec: ModelSpec | None) -> bool:
    """Whether ``labels`` hold what the default metric of the model needs, for its grid."""
    output = occupancy_output(spec)
    if output is None or not {SEMANTICS, MASK_CAMERA} <= labels.keys():
        return False
    return labels[SEMANTICS].shape == tuple(output.shape[:3])


def occupancy_output(spec: ModelSpec | None) -> OutputSpec | None:
    for output in spec.outputs if spec is not None else ():
        if output.semantics in ("occupancy-labels", "occupancy-logits"):
            return output
    return None
