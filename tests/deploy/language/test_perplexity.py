"""Perplexity, divergence and agreement, against a plain computation from whole logits."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from deploy.cli import run
from deploy.language.perplexity import TextComparison, Window, compare_on_text, read_text
from deploy.language.stepping import LanguageModel
from exporters.errors import UserError
from exporters.illm.sample_text import sample_text

Models = dict[str, LanguageModel]


def test_the_numbers_are_those_of_whole_logits(models: Models) -> None:
    reference, candidate = models["float"], models["integer"]
    found = compare_on_text(reference, candidate, sample_text(), window=100, max_tokens=330)
    assert found.tokens == 3 * 99
    ids = reference.tokenizer.encode(sample_text())
    losses, others, divergence, same = [], [], [], []
    for start in (0, 100, 200):
        window = ids[start : start + 100]
        p, q = (_softmax(model, window)[:-1] for model in (reference, candidate))
        rows = np.arange(99), window[1:]
        losses += list(-np.log(q[rows]))
        others += list(-np.log(p[rows]))
        divergence += list((p * np.log(p / q)).sum(-1))
        same += list(p.argmax(-1) == q.argmax(-1))
    assert found.perplexity == pytest.approx(math.exp(np.mean(losses)), rel=1e-9)
    assert found.reference_perplexity == pytest.approx(math.exp(np.mean(others)), rel=1e-6)
    assert found.divergence == pytest.approx(float(np.mean(divergence)), rel=1e-6)
    assert found.top1_agreement == pytest.approx(float(np.mean(same)))


def _softmax(model: LanguageModel, ids: list[int]) -> np.ndarray:
    model.reset()
    e = np.exp(model.step(ids, keep=0))
    return np.asarray(e / e.sum(-1, keepdims=True))


def test_a_model_is_equal_to_itself(models: Models) -> None:
    model = models["float"]
    found = compare_on_text(model, model, sample_text(), window=64, max_tokens=200)
    assert found.ratio == pytest.approx(1.0)
    assert found.divergence == pytest.approx(0.0, abs=1e-9)
    assert found.top1_agreement == 1.0
    interval = found.measures["perplexity_ratio"]
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((1.0, 1.0))


def test_one_window_has_no_interval() -> None:
    one = TextComparison((Window(100, 310.0, 300.0, 5.0, 90),))
    assert set(one.measures.values()) == {None}
    assert one.to_json()["perplexity_ratio"] == {
        "value": pytest.approx(math.exp(0.1)),
        "interval_95": None,
    }


def test_the_command_judges_terms_by_their_intervals(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "t.txt"
    text.write_text(sample_text())
    base = ["verify", str(files["float"]), str(files["integer"]), "--text", str(text)]
    base += ["--window", "64", "--threads", "1", "--json"]
    assert run([*base, "--require", "perplexity_ratio<=1.5", "--require", "kl_nats<=1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["status"] == "pass"
    assert found["tokens"] == 63 * found["windows"]
    assert run([*base, "--require", "top1_agreement>=1.0"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["checks"][0]["ok"] is False
    for options, words in (
        (["--require", "miou>=1"], "unknown measure of a text 'miou'"),
        (["--require", "perplexity>=0.9*fp32"], "write perplexity_ratio<=1.015"),
        (["--metric", "miou"], "--text goes with --metric perplexity"),
        (["--samples", "x"], "give --samples or --text, not both"),
        (["--max-tokens", "10"], "fewer than one window of 64"),
    ):
        assert run([*base, *options]) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert run(["verify", str(files["float"]), str(files["integer"])]) == 2
    assert "no samples to compare on" in capsys.readouterr().err


def test_texts_that_cannot_be_judged_are_refused(models: Models, tmp_path: Path) -> None:
    one, two = models["float"], models["integer"]
    with pytest.raises(UserError, match="fewer than one window of 100"):
        compare_on_text(one, two, "short", window=100)
    with pytest.raises(UserError, match="Choose --window from 2 to 128"):
        compare_on_text(one, two, sample_text(), window=1000)
    (tmp_path / "t.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(UserError, match=r"is not UTF-8: .* at byte 3"):
        read_text(tmp_path / "t.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "t.gz").write_bytes(gzip.compress("äöü".encode()))
    assert read_text(tmp_path / "t.gz") == "äöü"
