"""What a paired comparison found out, sample by sample, and how it is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from deploy.boundaries import LayerComparison, LayerError
from deploy.console import plain
from deploy.metrics.gathering import SampleAgreement
from deploy.metrics.outputs import Parts
from deploy.metrics.paired import PairedInterval
from deploy.metrics.pooled import PairedMetric
from deploy.verdict import Check, Verdict, judge, judge_interval

COMPARISON_SCHEMA = "edgeport.comparison/2"


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must reach, beyond doubt: see ``deploy.verdict``. None is not judged.

    Attributes:
        min_agreement: share of equal labels, 0 to 1, of the worst output that has labels.
        min_sqnr_db: of the worst float output.
        max_metric_loss: reference minus candidate, in the metric's unit (mIoU: percent points).
    """

    min_agreement: float | None = None
    min_sqnr_db: float | None = None
    max_metric_loss: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference on the same samples.

    Attributes:
        reference, candidate: file names.
        outputs: metrics over all samples, output name to metric name to value.
        parts: the same by class and by height slice, where an output has them.
        paired: metrics with intervals and what every sample says; those of the task first, which
            there are none of where no ground truth fits and nobody asked.
        weights: where the model's weights come from; random ones make every number provisional.
        notes: what a reader should know, for example why there is no mIoU.
    """

    reference: str
    candidate: str
    samples: tuple[SampleAgreement, ...]
    outputs: Mapping[str, Mapping[str, float]]
    parts: Mapping[str, Parts]
    paired: tuple[PairedMetric, ...]
    layers: LayerComparison | None
    verdict: Verdict
    weights: str = ""
    notes: tuple[str, ...] = ()

    @property
    def task_metrics(self) -> tuple[PairedMetric, ...]:
        return tuple(metric for metric in self.paired if metric.is_task_metric)

    @property
    def metric(self) -> PairedMetric | None:
        """The task's, or the first of those that a user's metric gave."""
        return next(iter(self.task_metrics), None)

    @property
    def summary(self) -> dict[str, float]:
        """Flat metrics; ``output.metric`` where there are several outputs."""
        single = len(self.outputs) == 1
        flat = {
            metric if single else f"{output}.{metric}": value
            for output, metrics in self.outputs.items()
            for metric, value in metrics.items()
        }
        for metric in self.task_metrics:
            flat[f"{metric.name}_reference"] = metric.candidate + metric.loss
            flat[f"{metric.name}_candidate"] = metric.candidate
            flat[f"{metric.name}_loss"] = metric.loss
        return flat

    def to_json(self) -> dict[str, Any]:
        """Everything, schema ``edgeport.comparison/2``; values that are not finite are null."""
        value: dict[str, Any] = plain(
            {
                "schema": COMPARISON_SCHEMA,
                "reference": self.reference,
                "candidate": self.candidate,
                "weights": self.weights,
                "verdict": self.verdict.to_json(),
                "summary": self.summary,
                "samples": self.samples,
                "paired": [_paired(metric) for metric in self.paired],
                "parts": self.parts,
                "layers": None if self.layers is None else self._layers(),
                "kernels": None if self.layers is None else self._kernels(self.layers),
                "notes": self.notes,
            }
        )
        return value

    def to_report(self, name: str) -> dict[str, Any]:
        """The entry under ``agreement`` of ``report.json``."""
        value: dict[str, Any] = plain(
            {
                "name": name,
                "reference": self.reference,
                "candidate": self.candidate,
                "samples": self.samples,
                "summary": self.summary,
                "paired": [_paired(metric) for metric in self.paired],
                "per_class": self._per_class(),
                "layers": None if self.layers is None else self._layers(),
            }
        )
        return value

    def _per_class(self) -> list[dict[str, Any]] | None:
        for parts in self.parts.values():
            if "class" in parts:
                keys = ("reference_count", "candidate_count", "iou")
                return [
                    {"class": row["name"], **{key: row[key] for key in keys}}
                    for row in parts["class"]
                ]
        return None

    def _layers(self) -> list[dict[str, Any]]:
        assert self.layers is not None
        return [_layer(layer) for layer in self.layers.layers]

    @staticmethod
    def _kernels(layers: LayerComparison) -> dict[str, Any]:
        return {
            "integer": layers.integer_kernels,
            "observed": layers.observed_kernels,
            "absent": layers.absent,
        }


def _paired(metric: PairedMetric) -> dict[str, Any]:
    interval = metric.interval
    return {
        "name": metric.name,
        "output": metric.output,
        "unit": metric.unit,
        "reference": metric.reference,
        "candidate": metric.candidate,
        "interval": None
        if interval is None
        else {key: value for key, value in asdict(interval).items() if key != "deviation"},
        "values": [
            {"sample": name, "value": value}
            for name, value in zip(metric.sample_names, metric.values, strict=True)
        ],
        "why_not": metric.why_not,
        "note": metric.note,
    }


def _layer(layer: LayerError) -> dict[str, Any]:
    return {
        "tensor": layer.tensor,
        "node": layer.node,
        "op_type": layer.op_type,
        "sqnr_db": layer.error.sqnr_db,
        "cosine": layer.error.cosine,
        "max_abs": layer.error.max_abs,
    }


def judge_comparison(
    thresholds: Thresholds,
    outputs: Mapping[str, Mapping[str, float]],
    paired: Sequence[PairedMetric],
    layers: LayerComparison | None,
) -> Verdict:
    """All checks of a comparison; that no value turned NaN or infinite is always one of them."""
    broken = sum(values.get("mismatched", 0.0) for values in outputs.values())
    checks = [judge("values that are not finite", broken, "<=", 0)]
    if thresholds.min_agreement is not None:
        absent = "no output has labels"
        checks.append(_worst("agreement", outputs, paired, thresholds.min_agreement, absent))
    if thresholds.min_sqnr_db is not None:
        absent = "no float output to take it from; export with --logits"
        checks.append(_worst("sqnr_db", outputs, paired, thresholds.min_sqnr_db, absent))
    if thresholds.max_metric_loss is not None:
        checks.extend(_metric_losses(paired, thresholds.max_metric_loss))
    if layers is not None and layers.integer_kernels:
        name = "integer kernels lost by looking inside"
        checks.append(judge(name, layers.kernels_lost, "<=", 0))
    return Verdict(tuple(checks))


def _worst(
    metric: str,
    outputs: Mapping[str, Mapping[str, float]],
    paired: Sequence[PairedMetric],
    threshold: float,
    absent: str,
) -> Check:
    """The check of the output with the lowest value; NaN is the lowest of all."""
    name, unit = {"sqnr_db": ("SQNR", "dB"), "agreement": ("label agreement", "")}[metric]
    values = {output: found[metric] for output, found in outputs.items() if metric in found}
    if not values:
        return judge(name, None, ">=", threshold, unit=unit, note=absent)
    output = min(values, key=lambda key: -math.inf if math.isnan(values[key]) else values[key])
    found = next((m for m in paired if (m.output, m.name) == (output, metric)), None)
    if found is None or math.isinf(found.candidate):
        return judge(name, values[output], ">=", threshold, unit=unit)
    if found.interval is None:
        return judge(name, None, ">=", threshold, unit=unit, note=_no_interval(found))
    interval = _moved(found.interval, found.reference or 0.0)
    return judge_interval(name, found.candidate, interval, ">=", threshold, unit=unit)


def _metric_losses(paired: Sequence[PairedMetric], threshold: float) -> list[Check]:
    metrics = [metric for metric in paired if metric.is_task_metric]
    if not metrics:
        absent = "no sample has ground truth"
        return [judge("metric loss", None, "<=", threshold, note=absent)]
    checks = []
    for metric in metrics:
        name = f"{metric.name} loss"
        if metric.interval is None or math.isnan(metric.loss):
            note = _no_interval(metric)
            checks.append(judge(name, None, "<=", threshold, unit=metric.unit, note=note))
            continue
        difference = metric.interval
        loss = replace(
            difference, value=-difference.value, low=-difference.high, high=-difference.low
        )
        checks.append(judge_interval(name, metric.loss, loss, "<=", threshold, unit=metric.unit))
    return checks


def _no_interval(metric: PairedMetric) -> str:
    value = "" if math.isnan(metric.candidate) else f"{metric.candidate:.4g} was measured, but "
    return f"{value}{metric.why_not or 'nothing was measured'}"


def _moved(interval: PairedInterval, by: float) -> PairedInterval:
    return replace(
        interval, value=interval.value + by, low=interval.low + by, high=interval.high + by
    )
