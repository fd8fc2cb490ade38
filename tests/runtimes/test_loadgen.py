"""MLPerf's LoadGen measures ONNX Runtime for real; our percentiles hold against its own."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from deploy import cli
from exporters.errors import MissingRequirementError, UserError
from runtimes import loadgen as module
from runtimes.benchmark import Case
from runtimes.loadgen import loadgen, read_log
from runtimes.timing import binomial_cdf
from tests.runtimes import models


@pytest.fixture
def case(tmp_path: Path) -> Case:
    path = models.save(models.conv(), tmp_path / "m.onnx")
    samples = [{"x": models.weights(1, 8, 16, 16, seed=seed)} for seed in range(3)]
    return Case("m", path, samples, "onnxruntime", threads=1)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("mlperf_loadgen", reason="LoadGen has no package for this machine")


@pytest.mark.oracle
@pytest.mark.usefixtures("installed")
def test_single_stream_gives_its_percentiles_beside_ours(case: Case) -> None:
    found = loadgen([case], "single-stream", min_queries=700, min_seconds=0.2)[0]
    assert found.valid
    assert found.queries >= 700
    ordered = sorted(found.timing.latencies_ms)
    for p, observed, bound in (
        (0.90, found.p90_ms, found.p90_bound_ms),
        (0.99, found.p99_ms, found.p99_bound_ms),
    ):
        assert observed is not None
        assert bound is not None
        assert observed <= bound
        # LoadGen's time of a query holds ours and its own handling: never less at the same rank
        assert observed >= ordered[math.ceil(p * len(ordered)) - 2]
    assert found.version == "6.0.17"


@pytest.mark.oracle
@pytest.mark.usefixtures("installed")
def test_too_few_queries_bound_p90_only(case: Case) -> None:
    found = loadgen([case], "single-stream", min_queries=100, min_seconds=0.0)[0]
    assert found.p90_bound_ms is not None
    if found.queries < 662:
        assert found.p99_bound_ms is None


def test_early_stopping_is_the_binomial_bound_with_one_outlier() -> None:
    """64 and 662 queries: the fewest with P(at most one above the percentile) ≤ 1 %."""
    for share, fewest in ((0.9, 64), (0.99, 662)):
        assert binomial_cdf(fewest, 1 - share)[1] <= 0.01
        assert binomial_cdf(fewest - 1, 1 - share)[1] > 0.01


@pytest.mark.oracle
@pytest.mark.usefixtures("installed")
def test_offline_gives_a_throughput_below_the_sessions_own(case: Case) -> None:
    found = loadgen([case], "offline", min_queries=500, min_seconds=0.1)[0]
    assert found.queries >= 500
    assert found.p90_ms is None
    assert 0 < found.throughput_hz <= found.timing.throughput_hz * 1.001


@pytest.mark.usefixtures("installed")
def test_the_command_shows_and_writes_it(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", str(case.path), "--runs", "70", "--loadgen", "single-stream"]
    assert cli.run(arguments) == 0
    shown = capsys.readouterr().out
    assert "p90 at most" in shown
    assert "not an MLPerf result" in shown
    assert cli.run(["bench", str(case.path), "--runs", "70", "--loadgen", "offline", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.loadgen/1"
    assert result["cases"][0]["throughput_hz"] > 0


def test_wrong_scenarios_and_boards_are_refused(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="no scenario 'singlestream'") as raised:
        loadgen([case], "singlestream")
    assert "single-stream" in raised.value.fix
    arguments = ["bench", str(case.path), "--loadgen", "offline", "--board", "ssh://x"]
    assert cli.run(arguments) == 2
    assert "--loadgen was given, but boards are measured without LoadGen" in capsys.readouterr().err


def test_without_loadgen_it_is_said_how_to_get_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlperf_loadgen", None)
    with pytest.raises(MissingRequirementError, match="LoadGen is not installed") as raised:
        module.import_loadgen()
    assert "edgeport[loadgen]" in raised.value.fix


def test_the_last_value_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "detail.txt"
    lines = [f":::MLLOG {json.dumps({'key': 'a', 'value': value})}" for value in (1, 2)]
    path.write_text("\n".join(["something else", *lines]))
    assert read_log(path) == {"a": 2}
