"""``quantize --budget`` and ``sensitivity`` from outside: words, files, codes, going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calibration.samples import write_samples
from deploy.cli import run
from exporters.modelfile import ModelFile
from tests.calibration import nets
from tests.calibration.sensitivity import planted

METRIC = """
import numpy as np

def closeness(reference, candidate, sample):
    (name,) = reference
    error = np.abs(reference[name] - candidate[name]).mean() / np.abs(reference[name]).mean()
    return 1 - float(error)

def slowly(reference, candidate, sample):
    import time
    time.sleep(0.1)
    return closeness(reference, candidate, sample)
"""

BUDGET = "metric>=0.8"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that has a planted culprit, two sample sets and a metric."""
    proto = planted.loud_tensor()
    nets.saved(proto, tmp_path / "m.onnx", keep_float={"head": "kept"})
    write_samples(nets.samples(proto, 6), tmp_path / "set")
    write_samples(nets.samples(proto, 6, seed=9), tmp_path / "validation")
    (tmp_path / "budget_metric.py").write_text(METRIC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "budget_metric", None)
    monkeypatch.delitem(sys.modules, "budget_metric")
    return tmp_path


def arguments(*more: str, budget: str = BUDGET, metric: str = "closeness") -> list[str]:
    return [
        *("quantize", "m.onnx", "--samples", "set", "--scales", "minmax", "-o", "q.onnx"),
        *("--budget", budget, "--validate", "validation", "--metric", f"budget_metric:{metric}"),
        *("--cost", "work"),
        *more,
    ]


def test_nodes_that_go_back_are_printed_with_loss_and_cost(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments()) == 0
    out = capsys.readouterr().out
    table = out[out.index("Given back to float") :]
    assert "c3" in table
    assert "c1" not in table
    assert "metric>=0.8: holds, 1 of 6 units in float" in out
    curve = json.loads((place / "q.budget.json").read_text())
    assert curve["given_back"][0]["nodes"] == ["c3"]
    assert len(curve["curve"]) == curve["trials"]
    record = ModelFile(place / "q.onnx").require_spec().quantization
    assert record is not None
    assert record["budget"]["metric"] == "budget_metric:closeness"


def test_json_holds_the_file_and_the_search(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments("--json")) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["sha256"] == ModelFile(place / "q.onnx").sha256
    assert found["budget"]["holds"] is True
    score = found["budget"]["scores"][0]
    assert score["low"] <= score["value"] <= score["high"]
    assert score["fp32"] == 1.0


def test_on_this_cpu_times_are_measured(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policy", "onnxruntime", "--cost", "latency", "--json"]
    assert run(arguments(*options)) in (0, 1)
    found = json.loads(capsys.readouterr().out)["budget"]
    assert found["cost_unit"] == "ms"
    assert found["speedup"] == pytest.approx(found["fp32_ms"] / found["ms"])


def test_a_budget_that_cannot_be_held_ends_in_1_and_no_file(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(budget="metric>=1.5")) == 1
    assert not (place / "q.onnx").exists()
    assert (place / "q.budget.json").exists()
    out = capsys.readouterr().out
    assert "metric>=1.5: not held" in out
    assert "nothing was written" in out
    assert run(arguments("--write-anyway", "--overwrite", budget="metric>=1.5")) == 1
    assert (place / "q.onnx").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "metric>=0.9"], "--budget and --validate belong together"),
        (["--validate", "validation"], "--budget and --validate belong together"),
        (["--budget", "metric=1", "--validate", "validation"], "expected '>=' or '<='"),
        (
            ["--budget", "metric>=1", "--validate", "validation", "--cost", "latncy"],
            "unknown cost 'latncy'. Did you mean 'latency'",
        ),
        (
            ["--budget", "sqnr>=1", "--validate", "validation"],
            "no metric 'sqnr' here. Did you mean 'sqnr_db'",
        ),
        (
            ["--budget", "metric>=1", "--validate", "validation", "--metric", "nowhere:f"],
            "cannot import 'nowhere'",
        ),
        (
            ["--budget", "sqnr_db>=1", "--validate", "set"],
            "calibrat",
        ),
        (
            ["--budget", "a>=1", "--validate", "validation", "--jobs", "2", "--scheduler", "x"],
            "--jobs is for this machine",
        ),
    ],
)
def test_refusals(
    place: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    command = ["quantize", "m.onnx", "--samples", "set", "-o", "q.onnx", *options]
    assert run(command) == 2
    assert words in capsys.readouterr().err
    assert not (place / "q.onnx").exists()


def test_outputs_have_metrics_without_a_metric(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", "m.onnx", "--samples", "set", "-o", "q.onnx", "--scales", "minmax"]
    assert run([*command, "--budget", "sqnr_db>=15", "--validate", "validation"]) == 0
    assert "sqnr_db>=15: holds" in capsys.readouterr().out


# ------------------------------------------------------------------ the table


def test_sensitivity_prints_the_culprit_first(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sensitivity", "m.onnx", "--samples", "set", "--scales", "minmax"]
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.strip().startswith("c")).split()[0] == "c3"
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["units"][0]["unit"] == "c3"
    with_metric = [*command, "--validate", "validation", "--metric", "budget_metric:closeness"]
    assert run([*with_metric, "--judged", "1"]) == 0
    assert "metric with everything in INT8" in capsys.readouterr().out
    assert run([*command, "--metric", "budget_metric:closeness"]) == 2
    made = {path.name for path in place.iterdir()} - {"__pycache__"}
    assert made == {"m.onnx", "set", "validation", "budget_metric.py"}, "nothing is written"


# ------------------------------------------------------------------ going on, and many hands


def started(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.deploy.edgeport_main", *arguments(metric="slowly")],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_score(place: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Until the state on disk holds the first trial."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for state in place.glob("q.search-*.json"):
            found: dict[str, Any] = json.loads(state.read_text())["measured"]
            if any(name.startswith("score") for name in found):
                return found
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_search_that_was_killed_goes_on(
    place: Path, how: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    process = started(place)
    before = wait_for_a_score(place, process)
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert not (place / "q.onnx").exists()
    (state,) = place.glob("q.search-*.json")
    marked = json.loads(state.read_text())
    name = next(name for name in before if name.startswith("noise"))
    marked["measured"][name] *= 1.0 + 1e-9  # it would not come out so again
    state.write_text(json.dumps(marked))
    assert run(arguments(metric="slowly")) == 0
    after = json.loads(state.read_text())["measured"]
    assert {key: after[key] for key in before} == {**before, name: marked["measured"][name]}
    assert set(after) > set(before)
    assert "metric>=0.8: holds" in capsys.readouterr().out


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_finds_the_same(
    place: Path, scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments("--json")) == 0
    alone = json.loads(capsys.readouterr().out)
    (state,) = place.glob("q.search-*.json")
    state.unlink()
    assert run(arguments("--json", "--overwrite", "--scheduler", scheduler)) == 0
    together = json.loads(capsys.readouterr().out)
    assert together["sha256"] == alone["sha256"]
    assert together["budget"]["scores"][0]["value"] == pytest.approx(
        alone["budget"]["scores"][0]["value"], rel=1e-5
    )
