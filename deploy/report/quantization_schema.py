"""What a quantization says of itself: the schema ``edgeport.quantization/2``, typed.

`calibration.quantize` returns it, the model file holds the part that depends on neither time nor
machine (key ``edgeport.quantization``), and a report is drawn from it alone. New methods add keys
of their own: unlike elsewhere these are no error, and the page lists them as they are.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "edgeport.quantization/2"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class LeftNode(_Part):
    """A node that something was not done to, and why."""

    node: str
    op_type: str = ""
    reason: str


class SampleSet(_Part):
    count: int
    sha256: str = ""


class Work(_Part):
    """Multiply-adds of one forward pass."""

    quantized: int = 0
    total: int = 0


class ActivationRange(_Part):
    """One quantized tensor; ``bars`` are heights in per cent over what was seen."""

    tensor: str
    node: str = ""
    op_type: str = ""
    minimum: float
    maximum: float
    low: float
    high: float
    clipped: float = 0.0
    method: str = ""
    shared_by: int = 1
    bars: list[int] = Field(default_factory=list)


class WeightRange(_Part):
    """The weights of one node; no ``sqnr_db`` is an exact copy."""

    node: str
    op_type: str = ""
    shape: list[int] = Field(default_factory=list)
    minimum: float
    maximum: float
    smallest_scale: float
    largest_scale: float
    peak_to_rms: float | None = None
    sqnr_db: float | None = None
    bars: list[int] = Field(default_factory=list)


class LayerError(_Part):
    """SQNR of one layer's output with all errors before it; None is exact, or silent."""

    node: str
    op_type: str = ""
    multiply_adds: int = 0
    integer: bool = True
    sqnr_before_db: float | None = None
    sqnr_after_db: float | None = None


class SplitNode(_Part):
    node: str
    range_ratio: float | None = None
    plain_sqnr_db: float | None = None
    split_sqnr_db: float | None = None


class CorrectedNode(_Part):
    """A layer whose bias or rounding was corrected, and its SQNR on samples held back."""

    node: str
    sqnr_before_db: float | None = None
    sqnr_after_db: float | None = None
    kept: bool = True


class SetFinding(_Part):
    code: str
    severity: str = "note"
    message: str = ""
    fix: str = ""


class CalibrationSet(_Part):
    findings: list[SetFinding] = Field(default_factory=list)
    overridden: list[str] = Field(default_factory=list)


class Quantization(BaseModel):
    """A whole report of one quantized file."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    schema_: Literal["edgeport.quantization/2"] = Field(alias="schema")
    name: str = ""
    path: str = ""
    sha256: str = ""
    source_sha256: str = ""
    source_size_bytes: int | None = None
    size_bytes: int | None = None
    policy: str
    scales: str
    split: str = "none"
    rounding: str = "nearest"
    weights: str = "int8"
    rest: str = "fp32"
    samples: SampleSet | None = None
    quantized: dict[str, int] = Field(default_factory=dict)
    total: dict[str, int] = Field(default_factory=dict)
    multiply_adds: Work = Work()
    skipped: list[LeftNode] = Field(default_factory=list)
    activation_ranges: list[ActivationRange] = Field(default_factory=list)
    weight_ranges: list[WeightRange] = Field(default_factory=list)
    layers: list[LayerError] | None = None
    split_nodes: list[SplitNode] = Field(default_factory=list)
    whole_nodes: list[LeftNode] = Field(default_factory=list)
    corrected_nodes: list[CorrectedNode] = Field(default_factory=list)
    uncorrected_nodes: list[LeftNode] = Field(default_factory=list)
    respelled: list[LeftNode] = Field(default_factory=list)
    scale_methods: dict[str, int] = Field(default_factory=dict)
    calibration_set: CalibrationSet = CalibrationSet()
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_rss_mib: float | None = None

    @property
    def more(self) -> dict[str, Any]:
        """What this page has no place of its own for; tables that it does show are not repeated."""
        shown = {"activations", "float_operators", "scale_method_of", "forward_seconds_per_sample"}
        extra = self.model_extra or {}
        return {k: v for k, v in extra.items() if k not in shown and v not in ({}, [], None, "")}
