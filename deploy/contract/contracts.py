"""A contract: its terms, the files they are about, and the verdict on evidence.

    contract = Contract(preset="mlperf-99", require=["p99_ms<=40", "each class miou>=fp32-2"])
    verdict_on(contract, read_evidence(Path("bundle"))).status

Without ``files`` a term speaks of every file but FP32 that has evidence of its sort, and at least
one must have it. A file that is named has to have evidence for every term.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from deploy.contract.evidence import FileEvidence
from deploy.contract.judging import judge_file, judge_files
from deploy.contract.reading import REFERENCE
from deploy.contract.terms import ENGINE_MB, FRAME_J, MODEL_MB, Term, terms_of
from deploy.strict import StrictPart, explain
from deploy.verdict import Check, Verdict
from deploy.yamlfile import read_yaml
from exporters.errors import UserError, did_you_mean


class Contract(StrictPart):
    """What a deployed model must keep.

    Attributes:
        preset: `mlperf-99` or `mlperf-99.9`: the task's metric keeps that share of FP32's.
        require: further terms, as `"miou>=fp32-0.5"`, `"each class miou>=fp32-2"`, `"p99_ms<=40"`.
        files: roles and engines (`int8-tensorrt tensorrt`) that it is about; none for all but FP32.
    """

    preset: Literal["mlperf-99", "mlperf-99.9"] | None = None
    require: list[str] = Field(default_factory=list)
    files: list[str] | None = Field(default=None, min_length=1)

    @field_validator("require")
    @classmethod
    def _readable(cls, require: list[str]) -> list[str]:
        try:
            terms_of(None, require, "term")
        except UserError as error:
            raise ValueError(str(error)) from error
        return require

    @property
    def terms(self) -> list[Term]:
        return terms_of(self.preset, self.require, "term")


def contract_of(require: Sequence[str] | None, preset: str | None = None) -> Contract:
    """A contract from the command line.

    Raises:
        UserError: a term that makes no sense, or no such preset.
    """
    terms_of(preset, require or ())
    return Contract.model_validate({"preset": preset, "require": list(require or ())})


def load_contract(path: Path) -> Contract:
    """Read a contract from a YAML file of its own, or from a recipe's key ``contract``.

    Raises:
        UserError: unreadable, an unknown key or a term that makes no sense, with its line.
    """
    data, lines = read_yaml(path)
    if isinstance(data.get("contract"), dict):
        data = data["contract"]
        lines = {
            location[1:]: line for location, line in lines.items() if location[0] == "contract"
        }
    try:
        return Contract.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"{path}: {explain(error, Contract, lines)}", fix="See docs/contract.md"
        ) from error


def verdict_on(contract: Contract, files: Sequence[FileEvidence]) -> Verdict:
    """Every term on every file that it is about."""
    if contract.files is not None:
        return Verdict(tuple(judge_files(contract.terms, _named(contract.files, files))))
    others = [file for file in files if file.name != REFERENCE]
    checks: list[Check] = []
    for term in contract.terms:
        measured = [file for file in others if _has(term, file)]
        if measured:
            checks += judge_files([term], measured)
        else:
            checks += judge_file([term], FileEvidence("", missing=_missing(others)))
    return Verdict(tuple(sorted(checks, key=_by_file(others))))


def _named(names: Sequence[str], files: Sequence[FileEvidence]) -> list[FileEvidence]:
    known = {file.name: file for file in files}
    for name in names:
        if name not in known:
            raise UserError(
                f"the contract names {name!r}, of which there is no evidence",
                fix=did_you_mean(name, known) if known else "Give a bundle, or JSON of a command",
            )
    return [known[name] for name in names]


def _has(term: Term, file: FileEvidence) -> bool:
    """Whether ``file`` was measured for what ``term`` speaks of."""
    if not term.is_resource:
        return file.metrics is not None
    if term.name in (ENGINE_MB, MODEL_MB):
        return (file.engine_bytes if term.name == ENGINE_MB else file.model_bytes) is not None
    return (file.energy if term.name == FRAME_J else file.latency) is not None


def _missing(files: Sequence[FileEvidence]) -> str:
    return next((file.missing for file in files if file.missing), "")


def _by_file(files: Sequence[FileEvidence]) -> Callable[[Check], int]:
    names = [file.name for file in files]

    def place(check: Check) -> int:
        owner = check.name.rpartition(": ")[0]
        return names.index(owner) if owner in names else len(names)

    return place
