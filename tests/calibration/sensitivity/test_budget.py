"""Budget expressions: what is read, what is refused with which words, and when they hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.sensitivity.budget import Budget, Condition, Measured, parse_budget
from exporters.errors import UserError

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: float(f"{x:g}"))


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("metric>=0.99", Condition("metric", ">=", 0.99)),
        ("  error <= 1e-3 ", Condition("error", "<=", 1e-3)),
        ("miou>=fp32-0.5", Condition("miou", ">=", -0.5, 1.0)),
        ("miou >= 0.99 * fp32 + .25", Condition("miou", ">=", 0.25, 0.99)),
        ("labels.agreement>=1", Condition("labels.agreement", ">=", 1.0)),
        ("loss<=-2", Condition("loss", "<=", -2.0)),
    ],
)
def test_one_condition(text: str, condition: Condition) -> None:
    assert parse_budget(text).conditions == (condition,)


def test_conditions_are_joined_by_and() -> None:
    budget = parse_budget("mask_iou>=0.97 and speedup>=1.2 and latency_ms<=50")
    assert str(budget) == "mask_iou>=0.97 and speedup>=1.2 and latency_ms<=50"
    assert [c.name for c in budget.quality] == ["mask_iou"]
    assert [c.name for c in budget.cost] == ["speedup", "latency_ms"]


@given(NUMBERS, NUMBERS, st.sampled_from([">=", "<="]), st.booleans())
def test_what_is_printed_is_read_again(
    factor: float, offset: float, comparison: str, relative: bool
) -> None:
    condition = Condition("m", comparison, offset, factor if relative else None)  # type: ignore[arg-type]
    assert parse_budget(str(Budget((condition,)))).conditions == (condition,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at its end: expected the name of a metric"),
        ("0.99<=metric", "at '0.99<=metric': expected the name"),
        ("metric>0.99", "at '>0.99': expected '>=' or '<='. Write it as: metric>=0.99"),
        ("metric==1", "expected '>=' or '<='"),
        ("metric>=99%", "expected a number or a share of fp32. Write 0.99 (not 99 %)"),
        ("metric>=nan", "at 'nan': expected a number"),
        ("metric>=", "at its end: expected a number"),
        ("metric>=fp16", "at 'fp16': expected a number"),
        ("a>=1 or b>=2", "at 'or': expected 'and' or the end"),
        ("a>=1, b>=2", "at ',': expected 'and' or the end"),
        ("a>=1 and", "at its end: expected the name"),
        ("speedup>=1.2", "bounds the cost alone"),
        ("a>=1 and speedup>=2*fp32", "expected a number for 'speedup'"),
    ],
)
def test_what_makes_no_sense_is_pointed_at(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_budget(text)
    assert words in str(caught.value)


def test_an_unknown_metric_names_the_nearest() -> None:
    budget = parse_budget("agrement>=0.9 and speedup>=1")
    with pytest.raises(UserError, match=r"no metric 'agrement' here\. Did you mean 'agreement'"):
        budget.require(["agreement", "sqnr_db"])
    budget.require(["agrement"])


@pytest.mark.parametrize(
    ("text", "measured", "holds"),
    [
        ("m>=0.9", Measured(0.9), True),
        ("m>=0.9", Measured(0.8999), False),
        ("m<=0.9", Measured(0.8999), True),
        ("m>=fp32-0.5", Measured(40.0, fp32=40.4), True),
        ("m>=fp32-0.5", Measured(40.0, fp32=40.6), False),
        ("m>=0.99*fp32", Measured(0.5, fp32=0.5), True),
        ("m>=0.9", Measured(math.nan), False),
        ("m>=fp32", Measured(0.9), False),  # no fp32 value: no evidence
    ],
)
def test_when_it_holds(text: str, measured: Measured, holds: bool) -> None:
    assert parse_budget(text).holds({"m": measured}) is holds


def test_to_be_sure_the_worse_end_of_the_interval_counts() -> None:
    measured = {"m": Measured(0.95, low=0.91, high=0.97)}
    assert parse_budget("m>=0.9").holds(measured, sure=True)
    assert not parse_budget("m>=0.92").holds(measured, sure=True)
    assert not parse_budget("m<=0.96").holds(measured, sure=True)
    assert not parse_budget("m>=0.9").holds({"m": Measured(0.95)}, sure=True), "no interval"
