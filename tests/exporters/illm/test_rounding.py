"""Rounding against second moments: less error in what a matrix gives than rounding to nearest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporters.errors import UserError
from exporters.illm import export
from exporters.illm.rounding import Moments, best_clip, round_against
from exporters.illm.sample_text import sample_text
from exporters.illm.weights import LEVELS, quantize_columns
from exporters.modelfile import ModelFile
from tests.exporters.illm.test_decoder import IDS, Runner, real_logits, sqnr_db

Checkpoint = Callable[[str], tuple[Path, Any]]


def correlated(tokens: int, channels: int) -> Any:
    random = np.random.default_rng(1)
    mixed = random.standard_normal((tokens, channels // 4)) @ random.standard_normal(
        (channels // 4, channels)
    )
    return (mixed + 0.3 * random.standard_normal((tokens, channels))).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 6])
def test_what_the_matrix_gives_is_nearer(bits: int) -> None:
    x = correlated(600, 96)
    weight = np.random.default_rng(2).standard_normal((96, 40)).astype(np.float32)
    moments = torch.from_numpy(x.T.astype(np.float64) @ x)
    whole = np.ones(40)
    found, nearest = round_against(moments, weight, bits, whole), quantize_columns(weight, bits)
    np.testing.assert_array_equal(found.scale, nearest.scale)
    assert np.abs(found.values).max() <= LEVELS[bits]

    def error(matrix: Any) -> float:
        return float(np.square(x @ (matrix.real - weight)).mean())

    assert error(found) < 0.5 * error(nearest)
    if bits == 4:  # where scales end is chosen, too
        assert error(round_against(moments, weight, bits)) < error(found)


def test_the_best_end_of_a_scale_is_the_one_of_least_weighted_error() -> None:
    weight = np.random.default_rng(4).standard_normal((64, 6))
    weight[0, 0], weight[1, 1] = 20.0, 20.0
    energies = np.ones(64)
    energies[0] = 1e-3  # its outlier does not matter, that of row 1 does
    share = best_clip(weight, 4, energies)
    assert share[0] == 0.5
    assert share[1] >= 0.95
    errors = [
        energies @ np.square(quantize_columns(weight, 4, np.broadcast_to(c, 6)).real - weight)
        for c in (share, 1.0, 0.8, 0.6)
    ]
    assert all((errors[0] <= other * 1.001).all() for other in errors[1:])


def test_independent_inputs_leave_rounding_to_nearest() -> None:
    weight = np.random.default_rng(2).standard_normal((32, 8)).astype(np.float32)
    found = round_against(torch.eye(32, dtype=torch.float64), weight, 4, np.ones(8))
    np.testing.assert_array_equal(found.values, quantize_columns(weight, 4).values)


def test_moments_are_of_the_inputs_and_of_their_rounding() -> None:
    x = torch.from_numpy(correlated(50, 12))
    seen = Moments(levels=7)
    seen.see("attention_in", x, (0,), 4)
    seen.see("query", x, (0,), 4)
    whole = x.double()  # the first tokens are attended to by all others; their noise is not
    noise = (whole[4:].abs().amax(1) / 7).square().sum() / 12
    right = whole.T @ whole + noise * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(seen.by_matrix["qkv"], right, rtol=1e-5, atol=1e-3)
    assert list(seen.by_matrix) == ["qkv"]


def test_exported_it_is_nearer_to_the_float_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("llama-tied")
    text = tmp_path / "text.txt"
    text.write_text(sample_text() * 6)
    export("illm", tmp_path / "f.onnx", checkpoint=folder, precision="float")
    right = real_logits(Runner(tmp_path / "f.onnx").step(IDS))
    heard = {}
    for rounding in ("nearest", "gptq"):
        path = tmp_path / f"{rounding}.onnx"
        options = {"bits": "W4A8", "rounding": rounding, "text": text}
        export("illm", path, checkpoint=folder, **options)
        heard[rounding] = sqnr_db(right, real_logits(Runner(path).step(IDS)))
    assert heard["gptq"] > heard["nearest"]
    spec = ModelFile(tmp_path / "gptq.onnx").require_spec()
    assert spec.quantization is not None
    assert spec.quantization["rounding"] == "gptq"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounding": "best"}, "--rounding is 'best'"),
        ({"basis": "other"}, "--basis is 'other'"),
        ({"basis": "rotated", "smoothing": "analytic"}, "--smoothing analytic is for the checkp"),
    ],
)
def test_bad_options(
    checkpoint: Checkpoint, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        export("illm", tmp_path / "m.onnx", checkpoint=checkpoint("llama-tied")[0], **options)
    assert not list(tmp_path.iterdir())


def test_a_short_text_is_followed_by_ours(checkpoint: Checkpoint, tmp_path: Path) -> None:
    text, folder = tmp_path / "short.txt", checkpoint("llama-tied")[0]
    text.write_text("Too few words.")
    result = export("illm", tmp_path / "m.onnx", checkpoint=folder, text=text)
    assert "short.txt and built-in English text" in result.report["says"][0]
    options = {"text": text, "rounding": "nearest"}  # which looks at peaks alone
    result = export("illm", tmp_path / "n.onnx", checkpoint=folder, **options)
    assert "rounded to nearest; short.txt; context" in result.report["says"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the calibration text is empty"),
        ("F\u00e4hre".encode("latin-1"), "Give a UTF-8 text file"),
        (None, "cannot read calibration text"),
    ],
)
def test_a_text_that_is_none_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    given = {"checkpoint": checkpoint("llama-tied")[0], "text": tmp_path / "t.txt"}
    with pytest.raises(UserError, match=words):
        export("illm", tmp_path / "m.onnx", **given)
    assert not (tmp_path / "m.onnx").exists()


def test_the_built_in_text_is_enough_for_gptq() -> None:
    assert len(sample_text().split()) > 1500


def test_what_is_not_asked_for_is_the_best_that_was_measured(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """The rotated basis and GPTQ: four times nearer at four bits, on text of another kind."""
    folder = checkpoint("llama-tied")[0]
    result = export("illm", tmp_path / "m.onnx", checkpoint=folder, bits="W4A8")
    spec = ModelFile(tmp_path / "m.onnx").require_spec()
    assert spec.quantization is not None
    assert (spec.quantization["basis"], spec.quantization["rounding"]) == ("rotated", "gptq")
    assert result.report["says"] == (
        "integer-only W4A8, rotated basis, rounded by GPTQ; built-in English text; context 128",
    )
    export("illm", tmp_path / "f.onnx", checkpoint=folder, precision="float")
    options = {"basis": "own", "rounding": "nearest", "bits": "W4A8"}
    export("illm", tmp_path / "n.onnx", checkpoint=folder, **options)
    right, best, plain = (real_logits(Runner(tmp_path / f"{n}.onnx").step(IDS)) for n in "fmn")
    assert sqnr_db(right, best) > sqnr_db(right, plain)
