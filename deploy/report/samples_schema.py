"""What a report says of the sets that scales and metrics come from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from deploy.report.quantization_schema import SetFinding


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SetEntry(_Part):
    """One set; ``scenes`` is None where its source has none."""

    role: str
    source: str
    samples: int
    scenes: int | None = None
    sha256: str


class Finding(SetFinding):
    """With the numbers that were measured."""

    samples: list[str] = Field(default_factory=list)
    samples_concerned: int = 0
    numbers: dict[str, float | None] = Field(default_factory=dict)


class SampleSets(_Part):
    """Sets of a run, how many samples two of them share, and what the doctor found.

    ``overridden`` are codes of errors that ``i_know`` passed over.
    """

    sets: list[SetEntry]
    shared: int
    findings: list[Finding] = Field(default_factory=list)
    overridden: list[str] = Field(default_factory=list)
