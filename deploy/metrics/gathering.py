"""What two models' outputs say of each other, gathered while the samples go by.

Every sample leaves its metrics, and rows that add up; ``paired`` makes of the rows each metric of
the set with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.samples.base import labels_of
from deploy.metrics.outputs import OutputComparison, Parts, compare_output
from deploy.metrics.pooled import PairedMetric, metric_of_output, metric_of_task
from deploy.metrics.task import (
    Arrays,
    OwnTaskMetric,
    Rows,
    TaskMetric,
    default_metric,
    find_metric,
    has_ground_truth,
)
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec
from runtimes.base import TensorInfo


@dataclass(frozen=True)
class SampleAgreement:
    """Metrics of one sample: output name to metric name to value."""

    name: str
    outputs: Mapping[str, Mapping[str, float]]


class Gathering:
    """Add samples, then read ``outputs``, ``parts``, ``samples`` and ``paired``.

    Args:
        spec: self-description of the reference, or of the candidate; None for foreign models.
        metric: of the task, as ``deploy.metrics.task.find_metric`` takes it; None for the task's
            own where samples have fitting ground truth.
    """

    def __init__(self, spec: ModelSpec | None, metric: str | None) -> None:
        self._spec = spec
        self._asked = metric is not None
        self.metric_name = metric or default_metric(spec)
        self._metric = find_metric(self.metric_name, spec) if self.metric_name else None
        self._whole = self._metric.whole_set() if isinstance(self._metric, OwnTaskMetric) else None
        self._declared: dict[str, OutputSpec] = {}
        self._overall: dict[str, OutputComparison] = {}
        self._output_rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        self._task_rows: list[tuple[str, Rows]] = []
        self.samples: list[SampleAgreement] = []

    def declare_outputs(
        self, reference: Sequence[TensorInfo], candidate: Sequence[TensorInfo]
    ) -> None:
        """Take the outputs from the model file; from the session for an ONNX from elsewhere."""
        names = [output.name for output in reference]
        other = [output.name for output in candidate]
        if sorted(names) != sorted(other):
            raise UserError(
                f"the reference has outputs {names}, the candidate {other}",
                fix="Compare two files of the same variant and the same output (--logits or not)",
            )
        described = {o.name: o for o in self._spec.outputs} if self._spec is not None else {}
        for output in reference:
            self._declared[output.name] = described.get(output.name) or OutputSpec(
                output.name, output.dtype, output.shape
            )
            self._overall[output.name] = self._new(output.name)

    def _new(self, output: str) -> OutputComparison:
        return compare_output(self._declared[output], self._spec.classes if self._spec else ())

    def add(self, name: str, reference: Arrays, candidate: Arrays, sample: Arrays) -> None:
        """One sample: its name, what either model gave, and the sample with its ground truth."""
        metrics = {}
        for output, overall in self._overall.items():
            alone = self._new(output)
            for comparison in (alone, overall):
                comparison.update(reference[output], candidate[output])
            metrics[output] = alone.metrics()
            for metric, row in alone.rows().items():
                self._output_rows.setdefault((output, metric), []).append(row)
        self.samples.append(SampleAgreement(name, metrics))
        if self._metric is not None and self._is_judged(sample):
            self._judge(self._metric, name, reference, candidate, sample)

    def _is_judged(self, sample: Arrays) -> bool:
        return self._asked or has_ground_truth(labels_of(sample), self._spec)

    def _judge(
        self, metric: TaskMetric, name: str, reference: Arrays, candidate: Arrays, sample: Arrays
    ) -> None:
        rows = metric.rows(reference, candidate, sample, name)
        if rows:
            self._task_rows.append((name, rows))
        for instance, outputs in zip(self._whole or (), (reference, candidate), strict=False):
            instance.update(outputs, sample)

    @property
    def judged(self) -> int:
        """Samples in which the task's metric found something to judge."""
        return len(self._task_rows)

    @property
    def outputs(self) -> dict[str, dict[str, float]]:
        """Metrics over all samples, output name to metric name to value."""
        return {name: comparison.metrics() for name, comparison in self._overall.items()}

    @property
    def parts(self) -> dict[str, Parts]:
        """The same by class and by height slice, where an output has them."""
        return {name: comparison.parts() for name, comparison in self._overall.items()}

    def paired(self) -> tuple[PairedMetric, ...]:
        """Every metric of the set with its interval: those of the task first."""
        names = [sample.name for sample in self.samples]
        values = self.outputs
        found = [
            metric_of_output(metric, output, np.array(rows, np.float64), names, value)
            for (output, metric), rows in self._output_rows.items()
            if not np.isnan(value := values[output][metric])
        ]
        return (*self._task_metrics(), *found)

    def _task_metrics(self) -> list[PairedMetric]:
        if self._metric is None:
            return []
        if self._whole is not None:
            return [self._whole_metric(self._whole)] if self.samples else []
        keys = dict.fromkeys(key for _, rows in self._task_rows for key in rows)
        return [self._task_metric(key) for key in keys]

    def _task_metric(self, key: str) -> PairedMetric:
        assert self._metric is not None
        names = [name for name, rows in self._task_rows if key in rows]
        rows = [rows[key] for _, rows in self._task_rows if key in rows]
        stacked = np.stack([ours for ours, _ in rows]), np.stack([theirs for _, theirs in rows])
        return metric_of_task(key, self._metric.unit, self._metric.value, stacked, names)

    def _whole_metric(self, instances: tuple[Any, Any]) -> PairedMetric:
        """Of a class: its values over the set, and an interval from single samples."""
        title = str(self.metric_name).partition(":")[2]
        ours, theirs = (float(instance.value()) for instance in instances)
        single = self._task_metric(title) if self._task_rows else None
        return PairedMetric(
            name=title,
            output="",
            unit=str(getattr(instances[0], "unit", "")),
            reference=ours,
            candidate=theirs,
            interval=single.interval if single else None,
            sample_names=single.sample_names if single else (),
            values=single.values if single else (),
            why_not=single.why_not if single else "no sample can be scored alone",
            note=f"{title} is of the whole set, its interval of samples scored one by one",
        )
