"""The parts of a recipe, each a key of ``recipe.yaml``; ``deploy.recipe`` puts them together.

What an attribute says here is what an editor shows for its key (``deploy.recipe_schema``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from deploy.strict import StrictPart

FP32, FP16, INT8 = "fp32", "fp16", "int8"


class ModelPart(StrictPart):
    """The network: a variant to export, or a model file that is there already.

    Attributes:
        variant: a name of ``edgeport models``.
        file: a model file; then nothing is exported.
        checkpoint: weights; None for seeded random ones, which is stated beside every number.
        seed: of random weights.
        rig: a rig file to bake in, ``input`` to take the geometry as inputs, None for a synthetic.
        input: ``uint8`` images of the network's size, the ``camera``'s own, or ``float`` planes.
        options: further options of the exporter, as on the command line: ``image_size: 256x704``.
    """

    variant: str | None = None
    file: str | None = None
    checkpoint: str | None = None
    seed: int = 0
    rig: str | None = None
    input: Literal["uint8", "camera", "float"] = "uint8"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self) -> ModelPart:
        if (self.variant is None) == (self.file is None):
            raise ValueError("give either variant or file")
        return self


class SamplesPart(StrictPart):
    """Where samples come from: a folder, an ``.npz`` or ``synthetic:COUNT[:SEED]``.

    What nothing in the recipe needs may be left away.

    Attributes:
        calibration: what INT8 scales are taken from.
        evaluation: what files are compared, timed and drawn on. Never the calibration set.
        validation: what a budget is searched with; neither of the other two.
        i_know: findings of the calibration-set doctor to go on in spite of, as ``--i-know``.
    """

    calibration: str | None = None
    evaluation: str | None = None
    validation: str | None = None
    i_know: list[str] = Field(default_factory=list)


class QuantizationPart(StrictPart):
    """How INT8 is made; one file for each policy, from one pass over the calibration set.

    Attributes:
        policies: where Q/DQ go, a file each.
        scales: how ranges are chosen; ``auto`` measures which method suffers least.
        split: convolutions written as a coarse and a fine one (CFWS): ``auto`` where it gains 3 dB.
        equalize: rescale channels of the float network so that those of a tensor have like ranges.
        rest: type of what is not quantized; the file for ONNX Runtime stays at FP32, because its
            CPU kernels have no FP16.
        rounding: of weights: ``auto``, ``nearest``, ``gptq`` or ``adaround``.
        correct_bias: as ``quantize --correct-bias``; None where it is affordable and
            there is no budget.
        weights: ``int8``, or ``int4``: weights only.
        block: inputs of an int4 weight that share a scale; 0 for one scale a channel.
        keep_float: node names, or prefixes of them, that stay in float.
        budget: what every file has to keep on the validation set, as ``quantize --budget``.
        metric: what ``metric`` means in it; None for that of ``verify``.
    """

    policies: list[str] = Field(default_factory=lambda: ["onnxruntime", "tensorrt"], min_length=1)
    scales: str = "auto"
    split: str = "none"
    equalize: bool = False
    rounding: str = "auto"
    correct_bias: bool | None = None
    weights: str = "int8"
    block: int = 0
    rest: Literal["fp32", "fp16"] = "fp32"
    keep_float: list[str] = Field(default_factory=list)
    budget: str | None = None
    metric: str | None = None


class LanguagePart(StrictPart):
    """What is made of a language model, and how it is compared with the float one.

    Attributes:
        bits: of weights and activations, an integer-only file each: ``W8A8``, ``W6A6``, ``W4A8``.
        options: further options of these files, as of ``edgeport export illm``: ``basis: own``.
        text: UTF-8 text that perplexities are compared on; None for no comparison.
        window: tokens that a prediction may look back on at most.
        max_tokens: of the text; None for all.
        prompts: to continue greedily, for the report; None for ten that come with edgeport.
        tokens: so many for each prompt; 0 for no texts.
    """

    bits: list[str] = Field(default_factory=lambda: ["W8A8"], min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    text: str | None = None
    window: int = Field(default=512, ge=2)
    max_tokens: int | None = Field(default=None, ge=2)
    prompts: list[str] | None = Field(default=None, min_length=1)
    tokens: int = Field(default=50, ge=0)


class EnginePart(StrictPart):
    """One engine to build.

    Attributes:
        source: role of the file it is built from: ``fp32``, ``fp16``, ``int8-POLICY``.
        runtime: who builds it.
        target: device and software, as ``edgeport doctor`` lists them; None for this machine.
        required: without it the verdict is "no evidence"; else a missing builder is only noted.
    """

    source: str = Field(alias="from")
    runtime: str = "tensorrt"
    target: str | None = None
    required: bool = False

    @property
    def name(self) -> str:
        return f"{self.source} {self.runtime}"


class BoardPart(StrictPart):
    """One file that runs on a board: the last stage of the waterfall.

    Attributes:
        board: ``ssh://user@host[:port]``, or an inventory file with one board.
        source: role of the file that is built and run there.
        runtime: ``tensorrt``, ``trtexec`` or ``onnxruntime``; None for TensorRT where the board has
            it.
        required: without the board the verdict is "no evidence"; else its absence is only noted.
    """

    board: str
    source: str = Field(alias="from")
    runtime: Literal["tensorrt", "trtexec", "onnxruntime"] | None = None
    required: bool = False

    @property
    def name(self) -> str:
        host = urlsplit(self.board).hostname or Path(self.board).stem
        return f"{self.source} on {host}"


class BenchmarkPart(StrictPart):
    """Interleaved timing.

    Attributes:
        runs: measured rounds; p50 needs 6 of them, p90 36 and p99 368.
        warmup: rounds thrown away.
        threads: of CPU sessions; None for all cores.
        files: roles to time, the first is the reference; None for FP32 and every INT8 file that
            was made for ONNX Runtime.
    """

    runs: int = Field(default=30, ge=1)
    warmup: int = Field(default=3, ge=0)
    threads: int | None = Field(default=None, ge=1)
    files: list[str] | None = None


class VerifyPart(StrictPart):
    """The comparison of every other file with FP32.

    Attributes:
        metric: ``miou`` and others by name, or ``module:function``; None for the task's own.
        layers: compare at the quantization boundaries too.
        scenes: evaluation samples to draw in the report.
        waterfall: evaluation samples that every stage from PyTorch on is run on; 0 for none.
    """

    metric: str | None = None
    layers: bool = True
    scenes: int = Field(default=2, ge=0, le=30)
    waterfall: int = Field(default=24, ge=0)
