"""Tokens per second: what is counted, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import run
from deploy.language.benching import TokenPlan, bench_tokens
from exporters.errors import UserError

Files = dict[str, Path]


def test_every_round_has_both_phases_and_caches_are_counted(files: Files) -> None:
    plan = TokenPlan(prompt=20, steps=5, rounds=6, threads=1)
    found = bench_tokens([files["float"], files["integer"]], plan)
    reference, integer = found.files
    for speed in found.files:
        assert len(speed.prefill_s) == len(speed.decode_s) == 6
        assert min(*speed.prefill_s, *speed.decode_s) > 0
        assert speed.peak_mib > speed.baseline_mib > 0
    assert reference.prefill_ratio is None
    assert integer.decode_ratio is not None
    # two layers of two key-value heads of 16, keys and values: float32, or int8 and an int32 each
    assert reference.cache_bytes_a_token == 2 * 4 * 16 * 4
    assert integer.cache_bytes_a_token == 2 * 4 * (16 + 4)
    assert integer.decode_tokens_per_s == pytest.approx(5 / sorted(integer.decode_s)[2], rel=1)


def test_the_command(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tokens", "3", "--prompt-tokens", "8", "--runs", "2", "--threads", "1"]
    assert run(["bench", str(files["float"]), str(files["integer"]), *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "edgeport.token-bench/1"
    assert [speed["name"] for speed in found["files"]] == ["float.onnx", "integer.onnx"]
    assert found["plan"]["rounds"] == 2
    assert run(["bench", str(files["integer"]), *arguments]) == 0
    assert "2 texts of 8 + 3 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--tokens", "3", "--samples", "x"],
            "--samples was given, but texts are random tokens, on this machine",
        ),
        (["--kernels"], "--kernels was given, but compiled kernels are for --tokens"),
        (["--tokens", "100", "--prompt-tokens", "100"], "beyond the context of 128"),
    ],
)
def test_what_does_not_go_together(
    files: Files, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["bench", str(files["integer"]), *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_plan_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="steps is 0"):
        TokenPlan(steps=0)
    with pytest.raises(UserError, match="nothing to time"):
        bench_tokens([])
