"""Terms are read strictly, and what makes no sense is refused with the word that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.contract.contracts import Contract, contract_of, load_contract
from deploy.contract.terms import parse_term
from exporters.errors import UserError


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("miou>=30", "miou>=30"),
        (" miou >= fp32 - 0.5 ", "miou>=fp32-0.5"),
        ("metric>=0.99*fp32", "metric>=0.99*fp32"),
        ("each class miou>=fp32-2", "each class miou>=fp32-2"),
        ("p99_ms<=40", "p99_ms<=40"),
        ("p99.9_ms<=40", "p99.9_ms<=40"),
        ("engine_mb<=30.5", "engine_mb<=30.5"),
    ],
)
def test_a_term_is_read_and_written(text: str, again: str) -> None:
    assert str(parse_term(text)) == again
    assert parse_term(again) == parse_term(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("miou", "'miou' at its end: expected '>=' or '<='"),
        ("miou>=0.9*fp32-1", "bounds by a share and by a difference at once"),
        ("miou<=fp32", "asks to stay below FP32"),
        ("p99_ms<=fp32", "p99_ms takes a number, of the whole file"),
        ("each class p99_ms<=3", "takes a number, of the whole file"),
        ("p999_ms<=3", "there is no resource 'p999_ms'. Did you mean 'p99_ms'?"),
        ("engin_mb<=3", "there is no resource 'engin_mb'. Did you mean 'engine_mb'?"),
        ("miou>=1 and p99_ms<=3", "at 'and': expected its end"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_term(text)
    assert words in str(refused.value)


def test_a_preset_is_a_term_with_a_name() -> None:
    assert [str(term) for term in Contract(preset="mlperf-99.9").terms] == ["metric>=0.999*fp32"]
    with pytest.raises(UserError, match=r"unknown preset 'mlperf-9'. Did you mean 'mlperf-99'?"):
        contract_of([], "mlperf-9")


def test_a_contract_is_a_file_of_its_own_or_a_part_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("preset: mlperf-99\nrequire: [p99_ms<=40]\n")
    alone = load_contract(path)
    path.write_text("model: {}\ncontract:\n  preset: mlperf-99\n  require: [p99_ms<=40]\n")
    assert load_contract(path) == alone
    path.write_text("preset: mlperf-99\nrequires: [p99_ms<=40]\n")
    with pytest.raises(UserError, match=r"requires \(line 2\) is unknown \(did you mean 'require'"):
        load_contract(path)
    path.write_text("contract:\n  preset: mlperf-98\n")
    with pytest.raises(UserError, match=r"preset \(line 2\) is 'mlperf-98'; input should be"):
        load_contract(path)
