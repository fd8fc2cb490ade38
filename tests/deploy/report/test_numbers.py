"""How numbers read, which three stand on top, and that class colours can be told apart."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploy.report import formats
from deploy.report.charts.svg import ticks
from deploy.report.headlines import headlines
from deploy.report.palette import OCC3D, class_colour, class_colours
from deploy.report.reading import parse_report
from tests.deploy.report.fixture import full_report, minimal_report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.number(1312.1712), "1,312"),
        (formats.number(0.75981), "0.7598"),
        (formats.number(-3), "−3"),
        (formats.number(-0.0004, 2), "0.00"),
        (formats.number(math.inf), "∞"),
        (formats.number(None), "–"),
        (formats.plain(0.42), "0.42"),
        (formats.size(41_871_003), "41.9 MB"),
        (formats.parameters(39_942_136), "39.94 M"),
        (formats.duration(192), "3 min 12 s"),
        (formats.duration(0.424), "0.42 s"),
        (formats.signed_percent(-0.0001), "0 %"),
        (formats.signed_percent(-0.056), "−5.6 %"),
        (formats.metric("agreement_occupied", 0.98123), "98.12 %"),
        (formats.metric("labels.agreement", 1.0), "100.00 %"),
        (formats.metric("miou_reference", 0.52), "0.52 %"),
        (formats.metric("reference_count", 1), "1"),
        (formats.metric("memory_mib", 24064), "24,064 MiB"),
        (formats.metric("cosine", 0.99998), "0.999980"),
        (formats.metric("anything", None), "–"),
        (formats.title("worst_sqnr_db"), "Worst SQNR"),
        (formats.title("cpu_flags"), "CPU flags"),
        (formats.spelled("int8-onnxruntime against fp32"), "INT8 ONNX Runtime against FP32"),
        (formats.spelled("fp16 tensorrt-rtx"), "FP16 TensorRT-RTX"),
        (formats.spelled("myint8er"), "myint8er"),
        (formats.moment("2026-11-22T04:45:00+01:00"), "22 November 2026, 03:45 UTC"),
        (formats.moment("yesterday"), "yesterday"),
        (formats.plural(1, "boundary"), "1 boundary"),
        (formats.plural(2000, "boundary"), "2,000 boundaries"),
        (formats.plural(3, "class"), "3 classes"),
    ],
)
def test_numbers_and_names_read_as_people_write_them(text: str, expected: str) -> None:
    assert text == expected


def test_an_exact_copy_is_told_from_a_tensor_that_could_not_be_measured() -> None:
    assert formats.metric_of({"sqnr_db": None, "max_abs": 0.0}, "sqnr_db") == "exact"
    assert formats.metric_of({"sqnr_db": None, "max_abs": None}, "sqnr_db") == "–"
    assert formats.metric_of({"a.sqnr_db": None, "a.max_abs": 0}, "a.sqnr_db") == "exact"


@given(st.floats(0, 1, exclude_max=True))
def test_only_everything_reads_one_hundred_per_cent(share: float) -> None:
    assert formats.percent(share) != "100.00 %"
    # the rounding that this costs is below the last digit shown
    assert abs(float(formats.percent(share).removesuffix(" %")) / 100 - share) < 1.01e-4


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_are_round_evenly_spaced_and_inside(low: float, span: float, count: int) -> None:
    high = low + span
    marks = ticks(low, high, count)
    assert len(marks) <= count + 1
    slack = (high - low) * 1e-6 + 1e-9
    assert all(low - slack <= mark <= high + slack for mark in marks)
    steps = np.diff(marks)
    # marks are rounded to 10 decimals, hence not exactly even
    assert np.allclose(steps, steps[:1], rtol=1e-6, atol=2e-10)


# --- headlines -----------------------------------------------------------------------------------


def values(report: dict[str, Any]) -> dict[str, tuple[str | None, str, str]]:
    return {h.label: (h.value, h.detail, h.source) for h in headlines(parse_report(report))}


def test_the_three_headlines_are_the_int8_case_the_int8_comparison_and_the_int8_file() -> None:
    found = values(full_report(images=[]))
    assert found["Speed-up"] == (
        "2.71×",
        "95 % interval 2.69 to 2.73",
        "INT8 ONNX Runtime against FP32",
    )
    assert found["Label agreement"][:2] == ("99.68 %", "over 4 samples, 97.50 % where occupied")
    assert found["Model size"][:2] == ("41.9 MB", "3.83× smaller than FP32, INT8 engine 43.1 MB")


def test_without_measurements_each_headline_says_what_is_missing() -> None:
    for value, detail, _ in values(minimal_report()).values():
        assert value is None
        assert detail.startswith("no evidence: ")


def test_too_few_runs_for_a_ratio_are_told_from_nothing_timed() -> None:
    report = full_report(images=[])
    for case in report["latency"]["cases"]:
        case["ratio_to_reference"] = None
    assert values(report)["Speed-up"][:2] == (
        None,
        "no evidence: the runs are too few for a ratio",
    )


def test_a_task_without_labels_shows_its_own_first_metric() -> None:
    report = full_report(images=[])
    report["agreement"][0]["summary"] = {"sqnr_db": 31.4, "cosine": 0.999}
    assert values(report)["SQNR"][0] == "31.40 dB"


def test_an_int8_case_is_preferred_to_an_earlier_one() -> None:
    report = full_report(images=[])
    int8 = report["latency"]["cases"][1]
    fp16 = copy.deepcopy(int8) | {"name": "fp16", "ratio_to_reference": {"value": 9.0}}
    report["latency"]["cases"].insert(1, fp16)
    assert values(report)["Speed-up"][0] == "2.71×"


# --- colours -------------------------------------------------------------------------------------

# severity 1.0 of Machado, Oliveira, Fernandes 2009, for linear RGB
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
Matrix = NDArray[np.float64]


def oklab(colour: str, sight: Matrix) -> Matrix:
    """Ottosson 2020, of ``colour`` as someone with ``sight`` sees it."""
    srgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_cone = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    seen = np.clip(sight @ linear, 0, 1)
    result: Matrix = to_lab @ np.cbrt(to_cone @ seen)
    return result


@pytest.mark.parametrize(
    ("sight", "apart"),
    [(np.eye(3), 0.11), (np.array(DEUTERANOPIA), 0.08), (np.array(PROTANOPIA), 0.08)],
    ids=["normal", "deuteranopia", "protanopia"],
)
def test_any_two_class_colours_can_be_told_apart(sight: Matrix, apart: float) -> None:
    points = {name: oklab(colour, sight) for name, colour in OCC3D.items()}
    nearest = min(
        (float(np.linalg.norm(points[a] - points[b])), a, b)
        for a, b in itertools.combinations(points, 2)
    )
    assert nearest[0] > apart, nearest


def test_a_class_keeps_its_colour_whatever_its_index_and_spelling() -> None:
    assert (
        class_colour("traffic cone", 3) == class_colour("Traffic-Cone", 9) == OCC3D["traffic_cone"]
    )


def test_unknown_classes_get_different_colours() -> None:
    names = [f"class {index}" for index in range(24)]
    assert len(set(class_colours(names))) == 24
