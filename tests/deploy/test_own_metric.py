"""A user's metric: found where the command is typed, and every mistake in it is named."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from deploy.metrics.own import OwnMetric, load_metric
from exporters.errors import UserError

MODULE = """
    import numpy as np

    def mean(outputs, sample):
        return outputs["y"].mean() - sample["label.truth"]

    def scaled(outputs, sample, factor=2):
        return {"one": outputs["y"].mean(), "more": factor * outputs["y"].mean()}

    def overlap(reference_outputs, candidate_outputs, sample):
        return (reference_outputs["y"] == candidate_outputs["y"]).mean()

    overlap.unit = "boxes"

    def silent(outputs, sample):
        return None

    def nan(outputs, sample):
        return float("nan")

    def words(outputs, sample):
        return "good"

    def broken(outputs, sample):
        return outputs["no such output"]

    def one(outputs): ...
    def four(a, b, c, d): ...
    def anything(*args): ...
    def keyword(outputs, *, sample): ...

    class Hits:
        unit = "%"

        def __init__(self):
            self.n = 0

        def update(self, outputs, sample):
            self.n += int(outputs["y"].size)

        def value(self):
            return float(self.n) if self.n > 1 else float("nan")

    class Empty: ...
"""
SAMPLE = {"x": np.zeros(3, np.float32), "label.truth": np.float32(0.5)}
REFERENCE = {"y": np.array([1.0, 2.0, 3.0])}
CANDIDATE = {"y": np.array([1.0, 2.0, 6.0])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "metric_of_test_own.py").write_text(dedent(MODULE))
    (folder / "unclosed_of_test_own.py").write_text("def f(outputs, sample:\n")
    (folder / "needy_of_test_own.py").write_text("import a_library_that_is_not_there\n")
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def own(name: str) -> OwnMetric:
    return load_metric(f"metric_of_test_own:{name}")


def test_a_function_of_outputs_is_scored_on_both_models() -> None:
    metric = own("mean")
    assert metric.form == "single"
    assert metric.of_reference(REFERENCE, SAMPLE) == {"mean": 1.5}
    assert metric.of_candidate(REFERENCE, CANDIDATE, SAMPLE) == {"mean": 2.5}


def test_a_function_of_both_outputs_scores_the_reference_against_itself() -> None:
    metric = own("overlap")
    assert (metric.form, metric.unit) == ("pair", "boxes")
    assert metric.of_reference(REFERENCE, SAMPLE) == {"overlap": 1.0}
    assert metric.of_candidate(REFERENCE, CANDIDATE, SAMPLE) == {"overlap": pytest.approx(2 / 3)}


def test_several_numbers_have_names_and_further_arguments_may_have_defaults() -> None:
    assert own("scaled").of_reference(REFERENCE, SAMPLE) == {"one": 2.0, "more": 4.0}


def test_a_sample_may_have_nothing_to_judge() -> None:
    assert own("silent").of_reference(REFERENCE, SAMPLE) == {}
    hits = own("Hits")
    assert (hits.form, hits.unit) == ("set", "%")
    assert hits.of_reference(REFERENCE, SAMPLE) == {"Hits": 3.0}
    assert hits.of_reference({"y": np.zeros(1)}, SAMPLE) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here:f", "there is no such module. Type the command in the folder"),
        ("metric_of_test_own.py:mean", "no module name. Type the command beside metric_of_test_"),
        (":mean", "'' is no module name"),
        ("metric_of_test_own:meam", "has no function or class 'meam'. Did you mean 'mean'?"),
        ("metric_of_test_own:np", "has no function or class 'np'"),
        ("unclosed_of_test_own:f", "cannot import 'unclosed_of_test_own': SyntaxError"),
        ("needy_of_test_own:f", "No module named 'a_library_that_is_not_there'. Mend it"),
        ("metric_of_test_own:one", "one(outputs) is no metric. Write it as metric(outputs, sampl"),
        ("metric_of_test_own:four", "four(a, b, c, d) is no metric"),
        ("metric_of_test_own:anything", "anything(*args) is no metric"),
        ("metric_of_test_own:keyword", "keyword(outputs, *, sample) is no metric"),
        ("metric_of_test_own:Empty", "the class has no update(outputs, sample) or no value()"),
    ],
)
def test_what_is_no_metric_is_refused_before_any_work(name: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        load_metric(name)
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"--metric {name}: ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "gave nan for 'nan' on sample 'rainy'. Return None where a sample has nothing"),
        ("words", "gave str on sample 'rainy', not a number"),
        ("broken", "KeyError: 'no such output'. outputs: y [3]; sample: x [3], label.truth []"),
    ],
)
def test_what_a_metric_gives_is_checked_and_the_sample_named(name: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        own(name).of_candidate(REFERENCE, CANDIDATE, SAMPLE, "rainy")
    assert words in str(raised.value)
