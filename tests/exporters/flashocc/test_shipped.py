"""The weights that come with edgeport: found, described, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from calibration.samples import open_samples
from calibration.samples.base import inputs_of
from deploy.metrics.occupancy_metrics import OCCUPANCY_METRICS
from deploy.metrics.task import SummedMetric
from exporters import export
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.shipped import SHIPPED
from exporters.flashocc.weights import find_source
from exporters.shipped import how_trained
from exporters.variants import ExportResult


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export("flashocc-mini", tmp_path_factory.mktemp("mini") / "mini.onnx")


def test_the_miniature_is_trained_and_says_so(mini: ExportResult) -> None:
    spec = mini.model.spec
    path = SHIPPED.find("flashocc-mini", None, {})
    assert spec is not None
    assert path is not None
    assert SHIPPED.holds(path)
    assert path.stat().st_size < 8_000_000
    assert spec.weights.kind == "checkpoint"
    assert spec.weights.sha256 == sha256_file(path)
    assert spec.weights.note == how_trained(path)
    assert "generated world of seed 5000" in str(spec.weights)
    assert not any("mean nothing" in note for note in mini.report["notes"])


def test_one_file_serves_both_miniatures() -> None:
    names = ("flashocc-mini", "panoptic-flashocc-mini")
    assert len({SHIPPED.find(name, None, {}) for name in names}) == 1


def test_the_miniature_sees(mini: ExportResult) -> None:
    """Frames of a seed that was not trained on; guesses from frequencies reach a third of this."""
    spec = mini.model.spec
    assert spec is not None
    metric = OCCUPANCY_METRICS["miou"](spec)
    assert isinstance(metric, SummedMetric)
    session = ort.InferenceSession(str(mini.model.path), providers=["CPUExecutionProvider"])
    sums: Any = 0
    for sample in open_samples("synthetic:4:31", spec):
        found = {"labels": session.run(["labels"], inputs_of(sample))[0]}
        sums = sums + metric.rows(found, found, sample)["miou"][0]
    assert float(metric.value(np.asarray(sums))) > 20.0


def test_random_weights_on_request() -> None:
    source = find_source("flashocc-mini", ExportOptions(weights="random", seed=3))
    assert source.named is None
    assert str(source.origin) == "random weights, seed 3"
    assert find_source("flashocc-nano", ExportOptions()).named is None


@pytest.mark.parametrize(
    ("variant", "options", "words", "fix"),
    [
        ("flashocc-mini", {"weights": "randm"}, "unknown weights 'randm'", "random"),
        (
            "flashocc-m0",
            {"weights": "trained"},
            "no trained weights of flashocc-m0",
            "--checkpoint",
        ),
        (
            "flashocc-mini",
            {"grid": "-40:40:2,-40:40:2,-1:5.4:1.6"},
            "for its own grid, classes and depth bins, not for what --grid",
            "--weights random",
        ),
        (
            "flashocc-mini",
            {"checkpoint": "w.pth", "weights": "random"},
            "--checkpoint and --weights were both given",
            "Give one",
        ),
    ],
)
def test_what_does_not_fit(variant: str, options: dict[str, Any], words: str, fix: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        find_source(variant, ExportOptions.parse(options))
    assert fix in str(caught.value.fix)


def test_another_image_size_keeps_the_weights(tmp_path: Path) -> None:
    options = ExportOptions.parse({"image_size": "128x352"})
    source = find_source("flashocc-mini", options)
    assert source.named is not None
    assert source.config.view.image_size == (128, 352)
