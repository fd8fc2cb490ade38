"""A contract from wherever it was given, and evidence from several places, to one verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bundle import Bundle
from deploy.contract.contracts import Contract, contract_of, load_contract, verdict_on
from deploy.contract.reading import merged, read_evidence
from deploy.contract.writing import verdict_of_report
from deploy.verdict import Check, Verdict
from exporters.errors import UserError


@dataclass(frozen=True)
class Question:
    """What evidence is to be judged by.

    Attributes:
        contract: a YAML file; None for that of the first bundle.
        require, preset: terms beside it.
        files: that it is about, in place of those that the contract names.
    """

    contract: Path | None = None
    require: tuple[str, ...] = ()
    preset: str | None = None
    files: tuple[str, ...] = ()


def judge_evidence(sources: Sequence[Path], question: Question) -> Verdict:
    """The verdict on bundles and on JSON files that commands wrote.

    What always has to hold of a bundle, that its engines were built and no value turned NaN, is in
    it too.

    Raises:
        UserError: a source cannot be read, or there is no term at all.
    """
    files = merged([file for source in sources for file in read_evidence(source)])
    bundles = [Bundle.open(source) for source in sources if source.is_dir()]
    contract = _contract(question, bundles)
    if not contract.terms:
        raise UserError(
            "there is no term to judge by",
            fix='Give --contract FILE, --preset mlperf-99 or --require "metric>=0.99*fp32"',
        )
    held = [check for bundle in bundles for check in _always(bundle)]
    return Verdict((*held, *verdict_on(contract, files).checks))


def _contract(question: Question, bundles: Sequence[Bundle]) -> Contract:
    asked = contract_of(question.require, question.preset)
    if question.contract is not None:
        given = load_contract(question.contract)
    elif bundles and not asked.terms:
        recipe = json.loads((bundles[0].path / "recipe.json").read_text())
        given = Contract.model_validate(recipe["contract"])
    else:
        given = Contract()
    return given.model_copy(
        update={
            "require": [*given.require, *asked.require],
            "preset": asked.preset or given.preset,
            "files": list(question.files) or given.files,
        }
    )


def _always(bundle: Bundle) -> list[Check]:
    return [check for check in verdict_of_report(bundle.report).checks if not check.term]
