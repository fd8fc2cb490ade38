"""What one run of the quantizer works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.diagnosing import diagnosed
from calibration.equalization.equalizing import equalizing_factors, rescale
from calibration.equalization.factors import Factors
from calibration.graph.opsets import INT4_OPSET, RAISED_OPSET
from calibration.graph.prepare import add_change, prepare
from calibration.observing.statistics import Statistics
from calibration.options import QuantizeOptions
from calibration.qdq.placement import FloatRules, Policy
from calibration.qdq.policies import POLICIES
from calibration.qdq.policies.weight_only import WeightOnlyPolicy
from calibration.qdq.weights import INT8, WeightForm
from calibration.samples.base import Samples
from calibration.samples.findings import Diagnosis
from exporters.errors import UserError
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.scales.decided import Decided

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """A model, where its ranges come from, and how it is to be quantized.

    Attributes:
        samples: None where an earlier pass has to be enough.
        statistics: of an earlier pass over the model as it is in ``file``; None if there was none.
        evaluation: what the result will be judged by, for the calibration-set doctor.
        rewritten: where the float model goes as it is when Q/DQ are placed; None for nowhere.
        decided: ranges and integers of a model that keeps less in float; None to choose them.
    """

    file: ModelFile
    options: QuantizeOptions
    samples: Samples | None
    statistics: Statistics | None
    progress: Progress | None = None
    evaluation: Samples | None = None
    rewritten: Path | None = None
    decided: Decided | None = None

    @property
    def policy(self) -> Policy:
        policy = POLICIES.get(self.options.policy)
        return WeightOnlyPolicy(policy) if self.form.bits < 8 else policy

    @property
    def form(self) -> WeightForm:
        """What weights become."""
        return WeightForm(4, self.options.block) if self.options.weights == "int4" else INT8

    def prepared(self) -> ir.Model:
        """The model in the form that placement works on, with the opset that its weights need.

        A policy's `finish` takes the floors out again. Channels are equalized where that is asked
        for; factors are measured once.

        Raises:
            UserError: the file cannot be quantized, or there are no samples to equalize with.
        """
        model = self._canonical()
        if self.options.equalize:
            rescale(model, self._factors)
            add_change(model, f"channels of {len(self._factors)} tensors equalized")
        return model

    def _canonical(self) -> ir.Model:
        opset = INT4_OPSET if self.form.bits < 8 else RAISED_OPSET
        return prepare(self.file.proto, str(self.file.path), opset=opset, floors=True)

    @cached_property
    def _factors(self) -> dict[str, Factors]:
        return equalizing_factors(self, self._canonical())

    @property
    def half(self) -> bool:
        """Whether scales have to be FP16 numbers."""
        return self.options.rest == "fp16"

    @cached_property
    def floats(self) -> FloatRules:
        declared = dict(self.file.spec.keep_float) if self.file.spec else {}
        options = self.options
        return FloatRules(declared, options.keep_float, options.quantize_also, options.given_back)

    def check(self, graph: ir.Graph, *, needs_histogram: bool) -> None:
        """Refuse what could not end well, before the work starts.

        Raises:
            UserError: statistics of something else, or an unknown node name.
        """
        self.floats.check(node.name or "" for node in graph)
        if self.evaluation is not None and self.samples is None:
            raise UserError(
                "statistics cannot be compared with an evaluation set",
                fix="Give the samples themselves",
            )
        seen = self.statistics
        if seen is None:
            return
        if self.options.equalize:
            raise UserError(
                "--equalize makes tensors that these statistics have not seen",
                fix="Give the samples alone, or leave --equalize out",
            )
        if seen.model_sha256 != self.file.sha256:
            raise UserError(
                f"the statistics are of another model ({seen.model_sha256[:12]}) than "
                f"{self.file.path} ({self.file.sha256[:12]})",
                fix="Observe this model, or give the samples themselves",
            )
        if self.samples is not None and seen.samples_sha256 != self.samples.sha256:
            raise UserError(
                "the statistics are of other samples than these",
                fix="Give the samples that they were made with, or no statistics",
            )
        if needs_histogram and not seen.has_histograms:
            raise UserError(
                f"--scales {self.options.scales} needs histograms, the statistics hold ranges only",
                fix="Observe with histograms=True, or choose --scales minmax",
            )

    def diagnosis(self, graph: ir.Graph) -> Diagnosis:
        """What the doctor says of the samples; an earlier pass over them brings its own.

        Raises:
            SamplesRefusedError: an error that the options do not pass over.
        """
        if self.statistics is not None and (self.samples is None or self.evaluation is None):
            return self.statistics.diagnosis
        assert self.samples is not None  # one of the two is given
        return diagnosed(
            self.samples,
            graph,
            self.file.spec,
            min_samples=self.options.min_samples,
            i_know=self.options.i_know,
            evaluation=self.evaluation,
            progress=self.progress,
        )
