"""What can be asked of the quantizer, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibration.observing.feeds import MIN_SAMPLES
from calibration.qdq.policies import POLICIES
from calibration.registry import Registry
from calibration.samples.findings import check_overrides
from calibration.scales.methods import SCALES
from exporters.errors import UserError
from exporters.modelfile import ModelFile

SPLITS: Registry[str] = Registry("split")
SPLITS.add("none", "every weighted node stays one node")
SPLITS.add("cfws", "every convolution with a centre tap becomes a coarse and a fine one")
SPLITS.add("auto", "as cfws, where the layer's output gains at least 3 dB")

ROUNDINGS: Registry[str] = Registry("rounding")
ROUNDINGS.add("auto", "gptq where there are eight samples or more, else nearest")
ROUNDINGS.add("nearest", "every weight to the nearest integer")
ROUNDINGS.add("gptq", "one weight makes good what rounding another did wrong (closed form)")
ROUNDINGS.add("adaround", "up or down, whatever the layer's output suffers least from (torch)")

WEIGHT_TYPES: Registry[str] = Registry("weight type")
WEIGHT_TYPES.add("int8", "symmetric int8, one scale an output channel; activations 8 bits too")
WEIGHT_TYPES.add("int4", "symmetric int4, activations stay float; needs opset 21")

BLOCKS = (16, 32, 64, 128, 256)
"""Inputs that may share a scale: powers of two, which both TensorRT and ONNX Runtime take."""

RESTS: Registry[str] = Registry("type of the remainder")
RESTS.add("fp32", "what is not quantized stays as it is")
RESTS.add("fp16", "what is not quantized is cast to FP16")


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize; every name is checked when this is made.

    Attributes:
        policy: where Q/DQ go: ``tensorrt`` or ``onnxruntime``.
        scales: how ranges are chosen: ``minmax``, ``percentile``, ``mse``, ``entropy``, ``kl-r``,
            or ``auto``: for every tensor the one that its readers' outputs suffer least from.
        split: weight splitting: ``none``, ``cfws`` for every convolution that can be split, or
            ``auto`` where the layer's output gains by it.
        equalize: rescale channels of the float network so that those of a tensor have like ranges;
            it computes the same, and a tensor between two convolutions becomes another one.
        rounding: of weights: ``nearest``; ``gptq``, where one makes good what another did wrong, in
            closed form; ``auto``, which is that from eight samples on; or ``adaround``, learned
            layer by layer.
        correct_bias: shift biases so that rounding leaves the mean of every layer's output alone,
            where that brings the output nearer; None does it where there are samples and running
            a few of them is affordable.
        weights: ``int8``, or ``int4``: then activations stay float, and the file has opset 21.
        block: inputs of an int4 weight that share a scale; 0 for one scale an output channel.
        rest: type of everything that is not quantized: ``fp32`` or ``fp16``.
        keep_float: node names, or prefixes of them, that stay in float.
        quantize_also: names or prefixes of nodes that the model file declares as float and that
            are to be quantized all the same.
        given_back: node name to the reason why a budget gives it back to float; what
            `calibration.sensitivity` found.
        min_samples: fewer samples are refused.
        i_know: codes of what the calibration-set doctor finds wrong and is to be passed over, or
            ``all``; the model file records it.
    """

    policy: str = "tensorrt"
    scales: str = "auto"
    split: str = "none"
    equalize: bool = False
    rounding: str = "auto"
    correct_bias: bool | None = None
    weights: str = "int8"
    block: int = 0
    rest: str = "fp32"
    keep_float: tuple[str, ...] = ()
    quantize_also: tuple[str, ...] = ()
    given_back: Mapping[str, str] = field(default_factory=dict)
    min_samples: int = MIN_SAMPLES
    i_know: tuple[str, ...] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        POLICIES.get(self.policy)
        SCALES.get(self.scales)
        SPLITS.get(self.split)
        ROUNDINGS.get(self.rounding)
        WEIGHT_TYPES.get(self.weights)
        RESTS.get(self.rest)
        check_overrides(self.i_know)
        self._check_block()
        if self.min_samples < 1:
            raise UserError(
                f"at least 1 sample is needed, not {self.min_samples}", fix="Raise --min-samples"
            )
        if self.policy == "onnxruntime" and self.rest == "fp16":
            raise UserError(
                "ONNX Runtime's CPU kernels have no FP16: --rest fp16 is for --policy tensorrt",
                fix="Drop --rest fp16, or choose --policy tensorrt",
            )

    def _check_block(self) -> None:
        if self.block and self.weights != "int4":
            raise UserError(
                f"--block {self.block} is for --weights int4: int8 weights have a scale a channel",
                fix="Say --weights int4, or drop --block",
            )
        if self.block and self.block not in BLOCKS:
            raise UserError(
                f"a block of {self.block} weights has no kernel",
                fix=f"Choose --block {', '.join(map(str, BLOCKS[:-1]))} or {BLOCKS[-1]}",
            )

    def recipe(self) -> dict[str, Any]:
        """What of this decides the result, for the model file."""
        return {
            "policy": self.policy,
            "scales": self.scales,
            "split": self.split,
            "equalize": self.equalize,
            "rounding": self.rounding,
            "correct_bias": self.correct_bias,
            "weights": self.weights,
            "block": self.block,
            "rest": self.rest,
            "keep_float": list(self.keep_float),
            "quantize_also": list(self.quantize_also),
            "given_back": dict(self.given_back),
        }


@dataclass(frozen=True)
class QuantizeResult:
    """A quantized model file and what happened on the way.

    Attributes:
        report: JSON: the recipe, ``samples``, counts of operators ``quantized`` and in ``total``,
            multiply-adds likewise, ``skipped`` nodes with reasons, the scales in short, and
            ``seconds`` by phase with ``peak_rss_mib``.
    """

    model: ModelFile
    report: Mapping[str, Any]
