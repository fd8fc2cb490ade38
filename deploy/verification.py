"""Is the candidate still the same model? A paired comparison on the task's own terms.

Both files see the same samples, one at a time, and every output is compared as what the model file
says it is: labels by agreement, floats by SQNR and cosine, occupancy by mIoU where the samples
carry ground truth. What could not be measured never counts as passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from calibration.samples import open_samples
from calibration.samples.base import Array, Samples, inputs_of, labels_of
from deploy.boundaries import compare_layers
from deploy.comparison import (
    Comparison,
    MetricPair,
    SampleAgreement,
    Thresholds,
    judge_comparison,
)
from deploy.metrics.outputs import OutputComparison, compare_output
from deploy.metrics.task import Metric, default_metric, find_metric, has_ground_truth
from deploy.sessions import open_session, spec_of
from exporters.errors import UserError
from exporters.modelfile import ModelSpec, OutputSpec
from runtimes.base import Progress, Session
from runtimes.feeds import check_feeds

_EMULATED = (
    "the candidate is made for TensorRT; ONNX Runtime emulates its Q/DQ, so errors are right up to "
    "rounding and kernels are not those of the engine"
)


def verify(
    reference: Path | str,
    candidate: Path | str,
    samples: Samples | Path | str,
    *,
    metric: str | None = None,
    thresholds: Thresholds | None = None,
    layers: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare ``candidate`` with ``reference`` on ``samples``.

    Args:
        reference: model file or engine that is taken as right.
        candidate: model file or engine to judge.
        samples: what ``open_samples`` takes, or an open sample set.
        metric: ``miou``, ``module:function`` or ``module:Class`` (see ``deploy.metrics.task``);
            None takes the task's own where the samples have fitting ground truth.
        thresholds: what the candidate must reach.
        layers: compare at the quantization boundaries too; both files must be ONNX.
        threads: of ONNX Runtime; None for all cores.
        progress: called with ``samples`` and ``layers`` as phases.

    Raises:
        UserError: no samples, files that do not belong together, an unknown metric.
        MissingRequirementError: a file's runtime cannot run here.
    """
    reference, candidate = Path(reference), Path(candidate)
    candidate_spec = spec_of(candidate)
    spec = spec_of(reference) or candidate_spec
    opened = open_samples(samples, spec) if isinstance(samples, (str, Path)) else samples
    if len(opened) == 0:
        raise UserError("there are no samples to verify on", fix="Name others with --samples")
    run = _Run(spec, metric)
    with (
        open_session(reference, threads=threads) as reference_session,
        open_session(candidate, threads=threads) as candidate_session,
    ):
        run.declare_outputs(reference_session, candidate_session)
        for index, (name, sample) in enumerate(zip(opened.names, opened, strict=True)):
            feeds = _checked(name, inputs_of(sample), reference_session)
            outputs = reference_session.run(feeds), candidate_session.run(feeds)
            run.add(name, *outputs, labels_of(sample))
            if progress is not None:
                progress("samples", index + 1, len(opened))
    emulated = _is_emulated(candidate_spec)
    inside = None
    if layers:
        inside = compare_layers(
            reference, candidate, opened, emulate=emulated, threads=threads, progress=progress
        )
    overall = {name: comparison.metrics() for name, comparison in run.outputs.items()}
    pair = run.metric_pair()
    emulated = _is_emulated(candidate_spec)
    return Comparison(
        reference=reference.name,
        candidate=candidate.name,
        samples=tuple(run.samples),
        outputs=overall,
        parts={name: comparison.parts() for name, comparison in run.outputs.items()},
        metric=pair,
        layers=inside,
        verdict=judge_comparison(thresholds or Thresholds(), overall, pair, inside),
        weights=str(spec.weights) if spec is not None else "",
        notes=(*run.notes(), *([_EMULATED] if emulated else [])),
    )


def _is_emulated(spec: ModelSpec | None) -> bool:
    """Whether an INT8 model file has its Q/DQ placed for TensorRT."""
    quantization = spec.quantization if spec is not None else None
    return quantization is not None and quantization.get("policy") == "tensorrt"


def _checked(name: str, feeds: Mapping[str, Array], session: Session) -> Mapping[str, Array]:
    """``feeds`` if they fit the model and are finite; else an error that names the sample."""
    try:
        check_feeds(session.inputs, feeds)
    except UserError as error:
        raise UserError(f"sample {name!r}: {error.message}", fix=error.fix) from error
    for key, array in feeds.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise UserError(
                f"sample {name!r}: input {key!r} holds NaN or infinity",
                fix="Remove this sample, or mend what made it",
            )
    return feeds


@dataclass
class _Run:
    """What is gathered while the samples go by."""

    spec: ModelSpec | None
    metric: str | None
    outputs: dict[str, OutputComparison] = field(default_factory=dict)
    samples: list[SampleAgreement] = field(default_factory=list)
    judged: int = 0
    _declared: dict[str, OutputSpec] = field(default_factory=dict)
    _metrics: tuple[Metric, Metric] | None = None

    def __post_init__(self) -> None:
        name = self.metric or default_metric(self.spec)
        if name is not None:
            make = find_metric(name, self.spec)
            self._metrics = make(), make()

    def declare_outputs(self, reference: Session, candidate: Session) -> None:
        """Take the outputs from the model file; from the session for an ONNX from elsewhere."""
        names = [output.name for output in reference.outputs]
        other = [output.name for output in candidate.outputs]
        if sorted(names) != sorted(other):
            raise UserError(
                f"the reference has outputs {names}, the candidate {other}",
                fix="Compare two files of the same variant and the same output (--logits or not)",
            )
        described = {o.name: o for o in self.spec.outputs} if self.spec is not None else {}
        for output in reference.outputs:
            self._declared[output.name] = described.get(output.name) or OutputSpec(
                output.name, output.dtype, output.shape
            )
            self.outputs[output.name] = self._new(output.name)

    def _new(self, output: str) -> OutputComparison:
        return compare_output(self._declared[output], self.spec.classes if self.spec else ())

    def add(
        self,
        name: str,
        reference: Mapping[str, Array],
        candidate: Mapping[str, Array],
        labels: Mapping[str, Array],
    ) -> None:
        metrics = {}
        for output, overall in self.outputs.items():
            alone = self._new(output)
            for comparison in (alone, overall):
                comparison.update(reference[output], candidate[output])
            metrics[output] = alone.metrics()
        self.samples.append(SampleAgreement(name, metrics))
        if self._metrics is not None and (self.metric or has_ground_truth(labels, self.spec)):
            self.judged += 1
            self._metrics[0].update(reference, labels)
            self._metrics[1].update(candidate, labels)

    def metric_pair(self) -> MetricPair | None:
        if self._metrics is None or self.judged == 0:
            return None
        ours, theirs = self._metrics
        return MetricPair(
            name=self.metric or default_metric(self.spec) or "",
            unit=ours.unit,
            reference=ours.value(),
            candidate=theirs.value(),
            samples=self.judged,
        )

    def notes(self) -> list[str]:
        notes = []
        if self.spec is not None and self.spec.weights.kind == "random":
            notes.append(
                f"{self.spec.weights}: the numbers say how well the candidate follows "
                "the reference, nothing about how good the network is"
            )
        if self._metrics is not None and self.judged < len(self.samples):
            notes.append(
                f"{self.judged} of {len(self.samples)} samples have ground truth for this "
                f"grid; {'no metric' if not self.judged else 'the metric is over these'}"
            )
        return notes
