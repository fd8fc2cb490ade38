"""The number that a task is judged by: one that edgeport knows by name, or what a user names.

A task metric looks at one sample at a time and keeps *evidence* for either model: the value of any
set of samples is a function of the evidence of those in it. So memory holds little a sample,
samples may be judged anywhere, and `deploy.metrics.paired` can ask what other sets would have
given. Evidence of most metrics is a row of numbers that add up; `deploy.metrics.boxes` keeps ranked
boxes. `deploy.metrics.own` has the forms of a user's metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.occupancy import MASK_CAMERA, SEMANTICS
from deploy.metrics.own import OwnMetric, load_metric
from deploy.metrics.paired import Float, Pool, mean, sums_of
from deploy.metrics.pooled import ClassPools
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelSpec, OutputSpec

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Evidence = dict[str, tuple[Any, Any]]
"""By the name of a number: what a sample says of the reference and of the candidate."""


class TaskMetric(Protocol):
    """Numbers of which higher is better."""

    @property
    def unit(self) -> str: ...

    def rows(
        self, reference: Arrays, candidate: Arrays, sample: Arrays, sample_name: str = ""
    ) -> Evidence:
        """What one sample says; empty where it has nothing to judge.

        Args:
            reference, candidate: outputs of either model by name.
            sample: inputs, and ground truth under keys with the prefix ``label.``.
        """
        ...

    def pool(self, key: str, rows: Sequence[Any]) -> Pool:
        """The number called ``key`` of sets of samples, from one model's evidence of each sample.

        It is NaN where nothing was seen to judge.
        """
        ...


@runtime_checkable
class ClassedMetric(Protocol):
    """A task metric that is a mean over classes."""

    def class_pools(
        self, key: str, reference: Sequence[Any], candidate: Sequence[Any]
    ) -> dict[str, ClassPools]:
        """The number called ``key`` of every class that occurs, as `TaskMetric.pool`."""
        ...


class SummedMetric:
    """A metric whose evidence is rows that add up; ``value`` is a function of the sums."""

    def value(self, sums: Float) -> Float:
        """Of sums ``[..., k]`` of either model's rows; NaN where nothing was seen to judge."""
        raise NotImplementedError

    def pool(self, key: str, rows: Sequence[Float]) -> Pool:  # noqa: ARG002
        return sums_of(np.stack(rows), self.value)


class OwnTaskMetric(SummedMetric):
    """A user's metric, averaged over the samples."""

    def __init__(self, own: OwnMetric) -> None:
        self._own = own
        self.unit = own.unit

    def rows(
        self, reference: Arrays, candidate: Arrays, sample: Arrays, sample_name: str = ""
    ) -> Evidence:
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

    def right_or_wrong(
        self, reference: Sequence[Float], candidate: Sequence[Float]
    ) -> tuple[Float, Float] | None:
        """Either model's value of each sample, where all are 0 or 1; None for other metrics."""
        values = [np.stack(rows)[:, 0] for rows in (reference, candidate)]
        binary = self._own.form == "single" and all(np.isin(one, (0, 1)).all() for one in values)
        return (values[0], values[1]) if binary else None

    def whole_set(self) -> tuple[Any, Any] | None:
        """Two fresh instances of a class, which sees the whole set; None for a function."""
        target = self._own.target
        return (target(), target()) if self._own.form == "set" else None


def find_metrics(names: str, spec: ModelSpec | None) -> dict[str, TaskMetric]:
    """The metrics called ``names``, with commas between them, each by its name.

    Raises:
        UserError: as `find_metric`, or a name stands there twice.
    """
    listed = [name.strip() for name in names.split(",")]
    if len(set(listed)) < len(listed):
        raise UserError(f"--metric {names} names a metric twice", fix="Name each once")
    return {name: find_metric(name, spec) for name in listed}


def find_metric(name: str, spec: ModelSpec | None) -> TaskMetric:
    """The metric called ``name``, or the function or class at ``module:attribute``.

    Raises:
        UserError: no such metric, module or attribute, or the model has no output it could judge.
    """
    if ":" in name:
        return OwnTaskMetric(load_metric(name))
    made = built_in()
    if name not in made:
        raise UserError(
            f"unknown metric {name!r}", fix=did_you_mean(name, [*made, "module:function"])
        )
    return made[name](spec)


def built_in() -> dict[str, Callable[[ModelSpec | None], TaskMetric]]:
    """Every metric that has a name: what makes it for a model."""
    from deploy.metrics.boxes.detection_metrics import DETECTION_METRICS
    from deploy.metrics.occupancy_metrics import OCCUPANCY_METRICS

    return {**OCCUPANCY_METRICS, **DETECTION_METRICS}


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
