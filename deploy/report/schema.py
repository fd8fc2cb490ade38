"""What ``report.json`` may say: the schema ``edgeport.report/2`` as typed, frozen models.

The page is drawn from this file alone, so it is read strictly: a key that is unknown or missing is
an error that names its place, never something left off the page in silence. Sections that a run
did not produce are absent or null; the page then says "no evidence" for them.

Units are in the names (``_ms``, ``_mib``, ``_bytes``, ``_db``, ``_m``). Dictionaries whose keys
belong to somebody else (metrics, an engine's passport, tool versions) are open; the rest is closed.
"""

from __future__ import annotations

import base64
import zlib
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from deploy.report.quantization_schema import Quantization
from deploy.report.samples_schema import SampleSets

SCHEMA = "edgeport.report/2"

Scalar = float | int | bool | str | None
Metrics = dict[str, Any]
DataUri = Annotated[str, Field(pattern=r"^data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/]+=*$")]


class _Part(BaseModel):
    # "model_" is pydantic's own prefix; a report part has no methods that it could hide
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Environment(BaseModel):
    """Where the run happened; readings that only some machines have may be added."""

    model_config = ConfigDict(extra="allow", frozen=True)

    cpu: str | None = None
    cores: int | None = None
    threads: int | None = None
    python: str | None = None
    os: str | None = None
    load: Any = None
    versions: dict[str, str | None] = Field(default_factory=dict)


class Check(_Part):
    """One line of the contract; ``ok`` is None where there was nothing to judge."""

    name: str
    value: Scalar = None
    threshold: Scalar = None
    comparison: Literal[">=", "<=", ">", "<", "=="] = ">="
    unit: str = ""
    ok: bool | None = None
    note: str = ""
    low: float | None = None
    high: float | None = None
    term: str = ""


class Verdict(_Part):
    status: Literal["pass", "fail", "no evidence"]
    checks: list[Check] = Field(default_factory=list)


class ModelEntry(_Part):
    """One model file; ``operators`` counts its nodes by type."""

    role: str
    path: str
    size_bytes: int
    sha256: str
    opset: int | None = None
    nodes: int | None = None
    operators: dict[str, int] = Field(default_factory=dict)


class Model(_Part):
    variant: str
    family: str = ""
    task: str = ""
    weights: str
    parameters: int | None = None
    classes: list[str] = Field(default_factory=list)
    files: list[ModelEntry] = Field(default_factory=list)


class Stage(_Part):
    name: str
    seconds: float | None
    peak_rss_mib: float | None = None
    cached: bool = False
    notes: list[str] = Field(default_factory=list)


class EngineEntry(_Part):
    """One engine, its passport as the runtime wrote it, and what the preflight found."""

    name: str
    passport: Metrics
    findings: list[Metrics | str] = Field(default_factory=list)


class Percentile(_Part):
    """One percentile with its order-statistic interval, or the reason why there is none."""

    p: float
    value_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    reason: str | None = None


class Ratio(_Part):
    """How many times faster than the reference of the same interleaved run."""

    value: float
    low: float | None = None
    high: float | None = None


class LatencyCase(_Part):
    """``latencies_ms`` are in the order of the runs."""

    name: str
    runtime: str = ""
    latencies_ms: list[float] = Field(default_factory=list)
    percentiles: list[Percentile] = Field(default_factory=list)
    throughput_hz: float | None = None
    ratio_to_reference: Ratio | None = None
    peak_rss_mib: float | None = None


class Latency(_Part):
    """``confidence`` is the level of all intervals, 0 to 1, where the benchmark says it."""

    cases: list[LatencyCase]
    confidence: float | None = None
    threads: int | None = None
    runs: int | None = None


class AgreementSample(_Part):
    name: str
    outputs: dict[str, Metrics]


class ClassAgreement(_Part):
    class_name: str = Field(alias="class")
    reference_count: int | None = None
    candidate_count: int | None = None
    iou: float | None = None


class Layer(_Part):
    """One quantization boundary, in graph order; no ``sqnr_db`` and no error is an exact copy."""

    tensor: str
    node: str = ""
    op_type: str = ""
    sqnr_db: float | None = None
    cosine: float | None = None
    max_abs: float | None = None


class LayerAlone(_Part):
    """What a layer loses by itself, from the reference's inputs; none for an exact copy.

    ``outputs_db`` is how near the float network's outputs stay with this error in it; of the
    layers with the largest errors.
    """

    node: str
    op_type: str = ""
    tensor: str
    sqnr_db: float | None = None
    outputs_db: float | None = None


class PairedInterval(_Part):
    """Of candidate minus reference, or of the candidate where there is no reference."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    samples: int
    detectable: float | None = None
    deviation: float | None = None
    method: str = ""


class PairedValue(_Part):
    """What one sample says; null where it has nothing to say."""

    sample: str
    value: float | None = None


class PairedClass(_Part):
    """The metric of one class."""

    name: str
    reference: float | None = None
    candidate: float | None = None
    interval: PairedInterval | None = None
    alone: PairedInterval | None = None
    kept: PairedInterval | None = None
    why_not: str = ""


class Paired(_Part):
    """One metric over the set; ``why_not`` says why it has no interval.

    ``alone`` is the interval of the candidate's own value, ``kept`` of the share of the
    reference's that it keeps.
    """

    name: str
    output: str = ""
    unit: str = ""
    reference: float | None = None
    candidate: float | None = None
    interval: PairedInterval | None = None
    alone: PairedInterval | None = None
    kept: PairedInterval | None = None
    classes: list[PairedClass] = Field(default_factory=list)
    values: list[PairedValue] = Field(default_factory=list)
    why_not: str = ""
    note: str = ""


class Agreement(_Part):
    name: str
    reference: str
    candidate: str
    samples: list[AgreementSample] = Field(default_factory=list)
    summary: Metrics = Field(default_factory=dict)
    paired: list[Paired] = Field(default_factory=list)
    per_class: list[ClassAgreement] | None = None
    layers: list[Layer] | None = None
    alone: list[LayerAlone] | None = None


class WaterfallMetric(_Part):
    """A metric of one stage; ``loss`` with its interval is of this step alone."""

    metric: str = ""
    unit: str = ""
    value: float | None = None
    loss: float | None = None
    low: float | None = None
    high: float | None = None


class WaterfallStage(WaterfallMetric):
    """One form of the network against the one ``after`` it is made, or why there is no evidence.

    ``owner`` answers for the loss; ``also`` are further metrics that the recipe names; ``sqnr_db``
    is against the first stage, None with ``exact`` for an exact copy.
    """

    stage: str
    owner: str = ""
    after: str = ""
    samples: int = 0
    also: list[WaterfallMetric] = Field(default_factory=list)
    sqnr_db: float | None = None
    step_sqnr_db: float | None = None
    exact: bool | None = None
    missing: str = ""


class CameraImage(_Part):
    camera: str
    data_uri: DataUri


class LabelGrid(_Part):
    """``labels`` is base64 of zlib of uint8 labels in C order of ``shape``.

    ``instances`` is that of little-endian uint16 numbers, 0 for none; empty where nobody has any.
    """

    name: str
    labels: str
    instances: str = ""
    note: str = ""


class Scene(_Part):
    """One sample's cameras and its label grids ``[x, y, z]``, x forward, y left, z up, metres."""

    sample: str
    shape: tuple[int, int, int]
    free: int
    voxel_m: float
    origin_m: tuple[float, float, float]
    images: list[CameraImage] = Field(default_factory=list)
    grids: list[LabelGrid] = Field(default_factory=list)

    @field_validator("shape")
    @classmethod
    def _shape_fits_the_viewer(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(shape) < 1 or max(shape[:2]) > 1024 or shape[2] > 255:
            raise ValueError("a grid is at least 1 and at most 1024 x 1024 x 255 voxels")
        return shape

    @model_validator(mode="after")
    def _labels_fill_the_grid(self) -> Scene:
        wanted = prod(self.shape)
        for grid in self.grids:
            found = _inflated_size(grid.labels, wanted)
            if found != wanted:
                raise ValueError(f"grid {grid.name!r} holds {found} labels, its shape {wanted}")
            if grid.instances and _inflated_size(grid.instances, 2 * wanted) != 2 * wanted:
                raise ValueError(f"grid {grid.name!r} has not one instance number a voxel")
        return self


class DrawnBox(_Part):
    """A box on the ground, in the LiDAR frame; ``score`` is None for ground truth."""

    class_name: str = Field(alias="class")
    score: float | None = None
    corners_m: list[tuple[float, float]] = Field(min_length=4, max_length=4)


class BoxesOfFile(_Part):
    name: str
    boxes: list[DrawnBox] = Field(default_factory=list)


class Detection(_Part):
    """One sample's points from above, thinned, and the boxes of every file.

    ``least_score`` is that of the boxes that are kept.
    """

    sample: str
    least_score: float = 0.0
    points_m: list[tuple[float, float]] = Field(default_factory=list)
    files: list[BoxesOfFile] = Field(default_factory=list)


class CompletedText(_Part):
    """Greedy text; ``same_tokens`` at its beginning are the reference's, None for the reference."""

    name: str
    text: str
    tokens: int = 0
    same_tokens: int | None = None
    same_text: int = 0


class Completion(_Part):
    """What every model made of a prompt, the reference first."""

    prompt: str
    texts: list[CompletedText] = Field(min_length=1)


class Report(_Part):
    """A whole ``report.json``."""

    schema_: Literal["edgeport.report/2"] = Field(alias="schema")
    title: str
    created: str
    notes: list[str] = Field(default_factory=list)
    environment: Environment | None = None
    verdict: Verdict | None = None
    model: Model | None = None
    stages: list[Stage] | None = None
    samples: SampleSets | None = None
    quantization: list[Quantization] | None = None
    engines: list[EngineEntry] | None = None
    latency: Latency | None = None
    agreement: list[Agreement] | None = None
    waterfall: list[WaterfallStage] | None = None
    occupancy: list[Scene] | None = None
    detection: list[Detection] | None = None
    completions: list[Completion] | None = None


def _inflated_size(labels: str, limit: int) -> int:
    """Bytes that ``labels`` inflates to, reading at most one more than ``limit``."""
    try:
        return len(
            zlib.decompressobj().decompress(base64.b64decode(labels, validate=True), limit + 1)
        )
    except (ValueError, zlib.error) as error:
        raise ValueError(f"labels are not base64 of zlib data: {error}") from error
