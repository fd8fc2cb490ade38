"""The twins that come with edgeport: trained, described, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from calibration.samples.kitti_writing import kitti_drives
from deploy.metrics.boxes.rotated import rotated_iou
from exporters import export
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.pillarhist import prepare
from exporters.pillarhist.options import SHIPPED, ExportOptions
from exporters.pillarhist.weights import find_source
from exporters.shipped import how_trained
from training.clouds import returns_of, turn_of

VARIANTS = ("pillarhist-mini", "pointpillars-mini")
FLAT = [0, 1, 3, 4, 6]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_miniature_is_trained_and_finds_cars(variant: str, tmp_path: Path) -> None:
    """On turns of a seed that was not trained on; boxes put at random hit next to none."""
    result = export(variant, tmp_path / "m.onnx")
    spec = result.model.require_spec()
    path = SHIPPED.find(variant, None, {})
    assert path is not None
    assert path.stat().st_size < 8_000_000
    assert spec.weights.sha256 == sha256_file(path)
    assert spec.weights.note == how_trained(path)
    assert not any("mean nothing" in note for note in result.report["notes"])
    session = ort.InferenceSession(str(result.model.path), providers=["CPUExecutionProvider"])
    found = wanted = 0
    for drive in kitti_drives(2, 1, 31):
        turn = turn_of(drive, 0, spec.classes)
        ahead = np.abs(turn["points"][:, 1]) < 0.75 * turn["points"][:, 0]  # what a camera sees
        (rows,) = session.run(None, prepare(turn["points"][ahead], spec))
        cars = turn["boxes"][(turn["boxes"][:, 0] == 0) & (returns_of(turn) >= 30), 1:]
        seen = (cars[:, 0] > 5) & (cars[:, 0] < 45) & (np.abs(cars[:, 1]) < 0.7 * cars[:, 0])
        boxes = rows[rows[:, 8] == 0]
        overlap = rotated_iou(cars[seen][:, FLAT], boxes[:, FLAT])
        found += int((overlap.max(axis=1, initial=0) >= 0.5).sum())
        wanted += int(seen.sum())
    assert wanted >= 5
    assert found >= 0.7 * wanted


def test_twins_were_trained_alike() -> None:
    told = {
        how_trained(path) for path in (SHIPPED.find(name, None, {}) for name in VARIANTS) if path
    }
    assert len(told) == 1
    assert "generated world" in told.pop()


def test_random_weights_on_request() -> None:
    assert find_source("pillarhist-mini", ExportOptions(weights="random", seed=3)).named is None
    assert find_source("pointpillars-kitti", ExportOptions()).named is None


@pytest.mark.parametrize(
    ("variant", "options", "words", "fix"),
    [
        ("pillarhist-mini", {"bins": 8}, "for its own grid and encoder", "--weights random"),
        ("pillarhist-mini", {"count_mode": "raw"}, "what --count-mode would make", "Leave"),
        ("pointpillars-kitti", {"weights": "trained"}, "no trained weights of", "--checkpoint"),
        ("pillarhist-mini", {"weights": "randm"}, "unknown weights 'randm'", "random"),
    ],
)
def test_what_was_not_trained_is_refused(
    variant: str, options: dict[str, str | int], words: str, fix: str
) -> None:
    with pytest.raises(UserError, match=words) as raised:
        find_source(variant, ExportOptions(**options))  # type: ignore[arg-type]
    assert fix in str(raised.value.fix)


def test_weights_and_a_checkpoint_are_not_given_both(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both given"):
        find_source(
            "pillarhist-mini", ExportOptions(checkpoint=tmp_path / "w.pth", weights="trained")
        )
