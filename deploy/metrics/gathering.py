"""What two models' outputs say of each other, gathered while the samples go by.

A `Judge` says of one sample everything that a comparison needs, and its `Finding` is small and may
come from another process; a `Gathering` takes findings in the order of the samples. ``paired``
makes of them each metric of the set with its interval. Where a sample was judged changes nothing:
findings are merged one by one, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calibration.samples.base import labels_of
from deploy.metrics.delong import AUROC, auroc_metric
from deploy.metrics.mcnemar import right_or_wrong_interval
from deploy.metrics.outputs import OutputComparison, Parts, compare_output
from deploy.metrics.pooled import PairedMetric, metric_of_output, metric_of_task
from deploy.metrics.task import (
    Arrays,
    ClassedMetric,
    Evidence,
    OwnTaskMetric,
    TaskMetric,
    default_metric,
    find_metrics,
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


@dataclass(frozen=True)
class Finding:
    """What one sample says.

    Attributes:
        outputs: by name, the comparison of this sample's outputs alone.
        tasks: by the name of a task's metric, its evidence; without those that found none.
    """

    outputs: Mapping[str, OutputComparison]
    tasks: Mapping[str, Evidence]


@dataclass
class Judge:
    """Judges one sample at a time; picklable, and the same wherever it does so.

    Attributes:
        spec: self-description of the reference, or of the candidate; None for foreign models.
        metric: names with commas between, as ``find_metrics`` takes them; None for none.
        asked: samples without ground truth are an error.
        declared: every output that is compared.
    """

    spec: ModelSpec | None
    metric: str | None
    asked: bool
    declared: dict[str, OutputSpec] = field(default_factory=dict)
    _metrics: dict[str, TaskMetric] | None = field(default=None, repr=False)

    @property
    def metrics(self) -> dict[str, TaskMetric]:
        if self._metrics is None:
            self._metrics = find_metrics(self.metric, self.spec) if self.metric else {}
        return self._metrics

    def comparison(self, output: str) -> OutputComparison:
        return compare_output(self.declared[output], self.spec.classes if self.spec else ())

    def __call__(self, name: str, reference: Arrays, candidate: Arrays, sample: Arrays) -> Finding:
        """One sample: its name, what either model gave, and the sample with its ground truth."""
        outputs = {output: self.comparison(output) for output in self.declared}
        for output, alone in outputs.items():
            alone.update(reference[output], candidate[output])
        tasks = {}
        if self.asked or has_ground_truth(labels_of(sample), self.spec):
            for metric, judge in self.metrics.items():
                evidence = judge.rows(reference, candidate, sample, name)
                if evidence:
                    tasks[metric] = evidence
        return Finding(outputs, tasks)

    def __getstate__(self) -> dict[str, Any]:
        # a user's module is imported where the judge works
        return {**self.__dict__, "_metrics": None}


class Gathering:
    """Add samples, then read ``outputs``, ``parts``, ``samples`` and ``paired``.

    Args:
        spec: self-description of the reference, or of the candidate; None for foreign models.
        metric: of the task, as ``deploy.metrics.task.find_metrics`` takes it; None for the task's
            own where samples have fitting ground truth.
    """

    def __init__(self, spec: ModelSpec | None, metric: str | None) -> None:
        self.metric_name = metric or default_metric(spec)
        self.judge = Judge(spec, self.metric_name, asked=metric is not None)
        self._whole = {
            name: whole
            for name, found in self.judge.metrics.items()
            if isinstance(found, OwnTaskMetric) and (whole := found.whole_set()) is not None
        }
        self._overall: dict[str, OutputComparison] = {}
        self._output_rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        self._evidence: list[tuple[str, Mapping[str, Evidence]]] = []
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
        spec = self.judge.spec
        described = {o.name: o for o in spec.outputs} if spec is not None else {}
        for output in reference:
            self.judge.declared[output.name] = described.get(output.name) or OutputSpec(
                output.name, output.dtype, output.shape
            )
            self._overall[output.name] = self.judge.comparison(output.name)

    @property
    def needs_outputs(self) -> str | None:
        """The metric that has to see every output of the set itself; None where there is none."""
        return next(iter(self._whole), None)

    def add(self, name: str, reference: Arrays, candidate: Arrays, sample: Arrays) -> None:
        """One sample: its name, what either model gave, and the sample with its ground truth."""
        self.take(name, self.judge(name, reference, candidate, sample))
        for instances in self._whole.values():
            for instance, outputs in zip(instances, (reference, candidate), strict=True):
                instance.update(outputs, sample)

    def take(self, name: str, finding: Finding) -> None:
        """What was found of one sample, the next in order."""
        for output, alone in finding.outputs.items():
            self._overall[output].merge(alone)
            for metric, row in alone.rows().items():
                self._output_rows.setdefault((output, metric), []).append(row)
        metrics = {output: alone.metrics() for output, alone in finding.outputs.items()}
        self.samples.append(SampleAgreement(name, metrics))
        if finding.tasks:
            self._evidence.append((name, finding.tasks))

    @property
    def judged(self) -> int:
        """Samples in which the task's metric found something to judge."""
        return len(self._evidence)

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
        tasks = [metric for name in self.judge.metrics for metric in self._task_metrics(name)]
        return (*tasks, *found)

    def _task_metrics(self, name: str) -> list[PairedMetric]:
        if name in self._whole:
            return [self._whole_metric(name, self._whole[name])] if self.samples else []
        keys = dict.fromkeys(key for _, tasks in self._evidence for key in tasks.get(name, ()))
        return [self._task_metric(name, key) for key in keys]

    def _task_metric(self, name: str, key: str) -> PairedMetric:
        metric = self.judge.metrics[name]
        found = [
            (sample, tasks[name][key])
            for sample, tasks in self._evidence
            if key in tasks.get(name, ())
        ]
        ours, theirs = ([both[side] for _, both in found] for side in (0, 1))
        pools = metric.pool(key, ours), metric.pool(key, theirs)
        classes = metric.class_pools(key, ours, theirs) if isinstance(metric, ClassedMetric) else {}
        paired = metric_of_task(key, metric.unit, pools, [sample for sample, _ in found], classes)
        hits = metric.right_or_wrong(ours, theirs) if isinstance(metric, OwnTaskMetric) else None
        if hits is None or len(found) < 2:
            return paired
        return replace(paired, interval=right_or_wrong_interval(*hits))

    def _whole_metric(self, name: str, instances: tuple[Any, Any]) -> PairedMetric:
        """Of a class: its values over the set, and an interval from single samples."""
        title = name.partition(":")[2]
        ours, theirs = (float(instance.value()) for instance in instances)
        seen = any(title in tasks.get(name, ()) for _, tasks in self._evidence)
        if isinstance(instances[0], AUROC):
            return auroc_metric(title, *instances)
        single = self._task_metric(name, title) if seen else None
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
