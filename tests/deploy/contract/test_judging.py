"""Pass, fail and no evidence: by intervals, by class, by resource, and never without evidence."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.contract.contracts import Contract, verdict_on
from deploy.contract.evidence import FileEvidence, MetricEvidence, suspects_of
from deploy.contract.judging import judge_file
from deploy.contract.terms import parse_term
from deploy.verdict import Check
from exporters.errors import UserError

from .evidence import evidence, metric, timed


def one(term: str, file: FileEvidence) -> Check:
    (check,) = judge_file([parse_term(term)], file)
    assert check.term == str(parse_term(term))
    return check


# 40 samples whose losses have mean 0.5 and deviation 0.1: the interval is 0.5 -+ 0.03
@pytest.mark.parametrize(
    ("term", "ok", "words"),
    [
        ("score>=fp32-0.6", True, "score loss 0.5 ["),
        ("score>=fp32-0.4", False, "] <= 0.4 %: missed"),
        ("score>=fp32-0.51", None, "40 samples say 0.5 ["),
        ("metric>=0.98*fp32", True, "score kept 0.99 ["),
        ("metric>=0.995*fp32", False, "] >= 0.995: missed"),
        ("metric>=0.9901*fp32", None, "which cannot decide 0.9901; about"),
        ("score>=49", True, "score 49.5 ["),
        ("score>=50", False, "] >= 50 %: missed"),
        ("score<=50", True, "] <= 50 %: ok"),
    ],
)
def test_a_metric_is_judged_by_its_whole_interval(term: str, ok: bool | None, words: str) -> None:
    check = one(term, evidence(metrics=[metric(0.5)]))
    assert check.ok is ok
    assert words in str(check)


def test_json_keeps_what_a_judgement_needs() -> None:
    whole = metric(0.5)
    (read,) = evidence(metrics=[whole]).metrics or ()
    assert (read.difference, read.alone, read.kept) == (whole.interval, whole.alone, whole.kept)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("agreement>=0.9", "label agreement: no evidence (no output has labels)"),
        ("sqnr_db>=20", "SQNR: no evidence (no float output to take it from"),
        ("scor>=20", "scor: no evidence (nothing here is called 'scor'. Did you mean 'score'?)"),
        ("each class score>=fp32-1", "score loss: no evidence (score has no classes)"),
        ("p99_ms<=4", "p99: no evidence (it was not timed)"),
        ("speedup>=2", "speed-up: no evidence (it was not timed)"),
        ("memory_mib<=400", "peak memory: no evidence (it was not timed)"),
        ("engine_mb<=4", "engine: no evidence (there is no engine)"),
        ("model_mb<=4", "model file: no evidence (there is no model file)"),
        ("frame_j<=4", "energy of a frame: no evidence (no energy was measured; bench --board"),
    ],
)
def test_what_was_not_measured_never_passes(term: str, words: str) -> None:
    file = evidence(metrics=[metric(0.5)])
    assert words in str(one(term, file))
    assert verdict_on(Contract(require=[term]), [file]).status == "no evidence"


def test_a_file_that_was_not_compared_has_no_metrics() -> None:
    assert one("metric>=0.9*fp32", evidence()).note == "it was not compared with FP32"
    assert one("metric>=0.9*fp32", evidence(metrics=[])).note == "no sample has ground truth"


@pytest.mark.parametrize(
    ("term", "ok", "words"),
    [
        ("p99_ms<=40", True, "p99 30 [28, 39] <= 40 ms: ok"),
        ("p99_ms<=20", False, "missed"),
        ("p99_ms<=35", None, "400 runs say 30 [28, 39] ms, which cannot decide 35 ms"),
        ("p90_ms<=35", None, "the benchmark gives no such percentile"),
        ("speedup>=1.5", True, "speed-up 1.7 [1.6, 1.8] >= 1.5: ok"),
        ("speedup>=1.7", None, "400 runs say 1.7 [1.6, 1.8], which cannot decide 1.7"),
        ("speedup>=2", False, "missed"),
        ("memory_mib<=200", False, "peak memory 210.5 <= 200 MiB: missed"),
        ("model_mb<=13", True, "model file 12 <= 13 MB: ok"),
        ("engine_mb<=3", False, "engine 4 <= 3 MB: missed"),
        ("frame_j<=0.5", True, "energy of a frame 0.4 [0.38, 0.45] <= 0.5 J: ok"),
        ("frame_j<=0.42", None, "these readings say 0.4 [0.38, 0.45] J"),
    ],
)
def test_resources_are_judged_by_their_bounds(term: str, ok: bool | None, words: str) -> None:
    file = evidence(
        latency=timed((30.0, 28.0, 39.0), (1.7, 1.6, 1.8)),
        energy={"frame_j": {"value": 0.4, "low": 0.38, "high": 0.45}, "reason": ""},
        model_bytes=12_000_000,
        engine_bytes=4_000_000,
    )
    check = one(term, file)
    assert check.ok is ok
    assert words in str(check)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("score>=fp32-0.6", ""),
        ("score>=fp32-0.4", "by itself loses most: loud (3.0 dB at the outputs), large (1.0 dB)"),
        ("score>=fp32-0.51", "would; by itself loses most: loud (3.0 dB at the outputs), large"),
        ("speedup>=2", ""),  # not measured: nobody is blamed
    ],
)
def test_whoever_does_not_pass_is_told_the_layers(term: str, words: str) -> None:
    """A layer whose error was tried at the outputs comes before one that has only a large error."""
    alone = [
        {"node": "large", "sqnr_db": 1.0, "outputs_db": None},
        {"node": "exact", "sqnr_db": None, "outputs_db": None},
        {"node": "loud", "sqnr_db": 5.0, "outputs_db": 3.0},
    ]
    file = evidence(metrics=[metric(0.5)], suspects=suspects_of(alone))
    note = one(term, file).note
    assert words in note
    assert ("by itself" in note) == ("by itself" in words)


def test_too_few_runs_and_unreadable_power_say_why() -> None:
    file = evidence(
        latency=timed(None, (1.7, 1.6, 1.8)), energy={"frame_j": None, "reason": "no INA3221"}
    )
    assert one("p99_ms<=40", file).note == "p99 needs 368 runs"
    assert one("frame_j<=1", file).note == "no INA3221"


def by_class(**losses: float) -> list[Check]:
    file = evidence(metrics=[metric(0.5, **losses)])
    return judge_file([parse_term("each class score>=fp32-1")], file)


def test_every_class_has_to_hold() -> None:
    checks = by_class(car=0.2, truck=0.9, bus=1.5)
    assert [(check.name, check.ok) for check in checks] == [
        ("score of car loss", True),
        ("score of truck loss", True),
        ("score of bus loss", False),
    ]


def test_a_class_that_looks_bad_by_chance_is_no_evidence() -> None:
    """Deviation 0.1, 40 samples: a loss of 1.034 is 2.15 standard errors beyond 1, p = 0.019."""
    alone = by_class(car=1.034)
    assert alone[0].ok is False
    many = {f"c{index}": 0.5 for index in range(16)}
    among = {check.name: check for check in by_class(car=1.034, **many)}
    assert among["score of car loss"].ok is None
    assert "one class of many may be so by chance (Holm)" in among["score of car loss"].note
    certain = {check.name: check.ok for check in by_class(car=1.2, **many)}
    assert certain["score of car loss"] is False


def test_terms_speak_of_every_file_that_has_evidence_and_fail_without_any() -> None:
    files = [
        evidence("fp32", latency=timed((60.0, 59.0, 61.0), (1.0, 1.0, 1.0))),
        evidence("int8-onnxruntime", metrics=[metric(0.2)], latency=timed((30, 28, 39), (2, 2, 2))),
        evidence("int8-tensorrt", metrics=[metric(0.9)]),
    ]
    contract = Contract(require=["score>=fp32-0.5", "p99_ms<=40"])
    found = {check.name: check.ok for check in verdict_on(contract, files).checks}
    assert found == {
        "int8-onnxruntime: score loss": True,
        "int8-onnxruntime: p99": True,
        "int8-tensorrt: score loss": False,
    }
    chosen = contract.model_copy(update={"files": ["int8-tensorrt"]})
    found = {check.name: check.ok for check in verdict_on(chosen, files).checks}
    assert found == {"int8-tensorrt: score loss": False, "int8-tensorrt: p99": None}
    missing = contract.model_copy(update={"files": ["int8-tensort"]})
    with pytest.raises(UserError, match=r"names 'int8-tensort', of which there is no evidence"):
        verdict_on(missing, files)
    only = Contract(require=["frame_j<=1"])
    assert verdict_on(only, files).status == "no evidence"


def test_an_exact_copy_has_any_sqnr() -> None:
    entry: dict[str, Any] = {
        "name": "sqnr_db",
        "output": "y",
        "unit": "dB",
        "reference": None,
        "candidate": None,
        "interval": None,
        "why_not": "the copy is exact",
    }
    file = FileEvidence("int8", metrics=(MetricEvidence.from_json(entry),))
    assert one("sqnr_db>=100", file).ok is True
    lost = {**entry, "why_not": "nothing of the signal is left"}
    file = FileEvidence("int8", metrics=(MetricEvidence.from_json(lost),))
    assert one("sqnr_db>=-50", file).ok is False
