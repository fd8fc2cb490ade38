"""What a paired comparison found out, sample by sample, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.boundaries import LayerComparison, LayerError
from deploy.console import plain
from deploy.contract.contracts import Contract
from deploy.contract.evidence import FileEvidence, MetricEvidence, suspects_of
from deploy.contract.judging import judge_file
from deploy.metrics.gathering import SampleAgreement
from deploy.metrics.outputs import Parts
from deploy.metrics.pooled import PairedMetric
from deploy.verdict import Verdict, judge

COMPARISON_SCHEMA = "edgeport.comparison/3"


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
        """Everything, schema ``edgeport.comparison/3``; values that are not finite are null."""
        value: dict[str, Any] = plain(
            {
                "schema": COMPARISON_SCHEMA,
                "reference": self.reference,
                "candidate": self.candidate,
                "weights": self.weights,
                "verdict": self.verdict.to_json(),
                "summary": self.summary,
                "samples": self.samples,
                "paired": [paired_json(metric) for metric in self.paired],
                "parts": self.parts,
                "layers": None if self.layers is None else self._layers(),
                "alone": None if self.layers is None else alone_json(self.layers),
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
                "paired": [paired_json(metric) for metric in self.paired],
                "per_class": self._per_class(),
                "layers": None if self.layers is None else self._layers(),
                "alone": None if self.layers is None else alone_json(self.layers),
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


def paired_json(metric: PairedMetric) -> dict[str, Any]:
    """The entry under ``paired``, from which a contract is judged."""
    return {
        "name": metric.name,
        "output": metric.output,
        "unit": metric.unit,
        "reference": metric.reference,
        "candidate": metric.candidate,
        "interval": metric.interval,
        "alone": metric.alone,
        "kept": metric.kept,
        "classes": [_of_class(one) for one in metric.classes],
        "values": [
            {"sample": name, "value": value}
            for name, value in zip(metric.sample_names, metric.values, strict=True)
        ],
        "why_not": metric.why_not,
        "note": metric.note,
    }


def _of_class(metric: PairedMetric) -> dict[str, Any]:
    keys = ("name", "reference", "candidate", "interval", "alone", "kept", "why_not")
    return {key: getattr(metric, key) for key in keys}


def _layer(layer: LayerError) -> dict[str, Any]:
    return {
        "tensor": layer.tensor,
        "node": layer.node,
        "op_type": layer.op_type,
        "sqnr_db": layer.error.sqnr_db,
        "cosine": layer.error.cosine,
        "max_abs": layer.error.max_abs,
    }


def alone_json(layers: LayerComparison) -> list[dict[str, Any]]:
    """The entries under ``alone``: what each layer loses by itself."""
    return [
        {
            "node": layer.node,
            "op_type": layer.op_type,
            "tensor": layer.tensor,
            "sqnr_db": layer.error.sqnr_db,
            "outputs_db": layer.outputs_db,
        }
        for layer in layers.alone
    ]


def judge_comparison(
    contract: Contract,
    candidate: str,
    outputs: Mapping[str, Mapping[str, float]],
    paired: Sequence[PairedMetric],
    layers: LayerComparison | None,
) -> Verdict:
    """All checks of a comparison; that no value turned NaN or infinite is always one of them."""
    broken = sum(values.get("mismatched", 0.0) for values in outputs.values())
    checks = [judge("values that are not finite", broken, "<=", 0)]
    if contract.terms:
        metrics = tuple(MetricEvidence.from_json(plain(paired_json(metric))) for metric in paired)
        alone = [] if layers is None else plain(alone_json(layers))
        evidence = FileEvidence(candidate, metrics=metrics, suspects=suspects_of(alone))
        checks += judge_file(contract.terms, evidence)
    if layers is not None and layers.integer_kernels:
        name = "integer kernels lost by looking inside"
        checks.append(judge(name, layers.kernels_lost, "<=", 0))
    return Verdict(tuple(checks))
