"""What a paired comparison found out, sample by sample, and how it is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.boundaries import LayerComparison, LayerError
from deploy.console import plain
from deploy.metrics.outputs import Parts
from deploy.verdict import Check, Verdict, judge

COMPARISON_SCHEMA = "edgeport.comparison/1"


@dataclass(frozen=True)
class Thresholds:
    """What a candidate must reach; None leaves a value unjudged.

    Attributes:
        min_agreement: share of equal labels, 0 to 1, of the worst output that has labels.
        min_sqnr_db: of the worst float output.
        max_metric_loss: reference minus candidate, in the metric's unit (mIoU: percent points).
    """

    min_agreement: float | None = None
    min_sqnr_db: float | None = None
    max_metric_loss: float | None = None


@dataclass(frozen=True)
class SampleAgreement:
    """Metrics of one sample: output name to metric name to value."""

    name: str
    outputs: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class MetricPair:
    """The task metric of both models over the samples that have ground truth."""

    name: str
    unit: str
    reference: float
    candidate: float
    samples: int

    @property
    def loss(self) -> float:
        return self.reference - self.candidate


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference on the same samples.

    Attributes:
        reference, candidate: file names.
        outputs: metrics over all samples, output name to metric name to value.
        parts: the same by class and by height slice, where an output has them.
        metric: None where no ground truth fits or nobody asked.
        weights: where the model's weights come from; random ones make every number provisional.
        notes: what a reader should know, for example why there is no mIoU.
    """

    reference: str
    candidate: str
    samples: tuple[SampleAgreement, ...]
    outputs: Mapping[str, Mapping[str, float]]
    parts: Mapping[str, Parts]
    metric: MetricPair | None
    layers: LayerComparison | None
    verdict: Verdict
    weights: str = ""
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> dict[str, float]:
        """Flat metrics; ``output.metric`` where there are several outputs."""
        single = len(self.outputs) == 1
        flat = {
            metric if single else f"{output}.{metric}": value
            for output, metrics in self.outputs.items()
            for metric, value in metrics.items()
        }
        if self.metric is not None:
            flat[f"{self.metric.name}_reference"] = self.metric.reference
            flat[f"{self.metric.name}_candidate"] = self.metric.candidate
            flat[f"{self.metric.name}_loss"] = self.metric.loss
        return flat

    def to_json(self) -> dict[str, Any]:
        """Everything, schema ``edgeport.comparison/1``; values that are not finite are null."""
        value: dict[str, Any] = plain(
            {
                "schema": COMPARISON_SCHEMA,
                "reference": self.reference,
                "candidate": self.candidate,
                "weights": self.weights,
                "verdict": self.verdict.to_json(),
                "summary": self.summary,
                "samples": self.samples,
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
    metric: MetricPair | None,
    layers: LayerComparison | None,
) -> Verdict:
    """All checks of a comparison; that no value turned NaN or infinite is always one of them."""
    broken = sum(values.get("mismatched", 0.0) for values in outputs.values())
    checks = [judge("values that are not finite", broken, "<=", 0)]
    if thresholds.min_agreement is not None:
        checks.append(
            _worst("agreement", outputs, thresholds.min_agreement, "no output has labels")
        )
    if thresholds.min_sqnr_db is not None:
        note = "no float output to take it from; export with --logits"
        checks.append(_worst("sqnr_db", outputs, thresholds.min_sqnr_db, note, "dB"))
    if thresholds.max_metric_loss is not None:
        checks.append(_metric_loss(metric, thresholds.max_metric_loss))
    if layers is not None and layers.integer_kernels:
        name = "integer kernels lost by looking inside"
        checks.append(judge(name, layers.kernels_lost, "<=", 0))
    return Verdict(tuple(checks))


def _worst(
    metric: str,
    outputs: Mapping[str, Mapping[str, float]],
    threshold: float,
    absent: str,
    unit: str = "",
) -> Check:
    values = [values[metric] for values in outputs.values() if metric in values]
    # NaN is not smaller than anything: look for it before min could step over it
    worst = math.nan if any(math.isnan(value) for value in values) else min(values, default=None)
    name = {"sqnr_db": "SQNR", "agreement": "label agreement"}[metric]
    return judge(name, worst, ">=", threshold, unit=unit, note="" if values else absent)


def _metric_loss(metric: MetricPair | None, threshold: float) -> Check:
    if metric is None:
        return judge("metric loss", None, "<=", threshold, note="no sample has ground truth")
    return judge(f"{metric.name} loss", metric.loss, "<=", threshold, unit=metric.unit)
