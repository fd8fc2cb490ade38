"""Which interval a metric gets: of labels, of rankings, of classes, of its own value."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.metrics.delong import auroc_interval
from deploy.metrics.gathering import Gathering
from deploy.metrics.mcnemar import difference_bounds
from deploy.metrics.occupancy import MASK_CAMERA, SEMANTICS
from deploy.metrics.paired import DELONG, TANGO, PairedInterval
from deploy.metrics.pooled import PairedMetric
from exporters.modelfile import ModelSpec, OutputSpec, WeightsSource
from runtimes.base import TensorInfo

MODULE = """
from deploy.metrics.delong import AUROC

def right(outputs, sample):
    return float(outputs["y"] == sample["label.y"])

class auroc(AUROC):
    def score(self, outputs, sample):
        return outputs["y"], sample["label.y"] > 0
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "set_metrics.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "set_metrics", raising=False)
    return "set_metrics"


def gathered(metric: str, truth: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> PairedMetric:
    run = Gathering(None, metric)
    info = [TensorInfo("y", "float32", ())]
    run.declare_outputs(info, info)
    for index, (label, one, two) in enumerate(zip(truth, ours, theirs, strict=True)):
        outputs = ({"y": np.float32(one)}, {"y": np.float32(two)})
        run.add(f"s{index}", *outputs, {"label.y": np.float32(label)})
    return run.paired()[0]


def test_right_or_wrong_has_tangos_interval(module: str) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 200)
    ours = np.where(random.random(200) < 0.1, (truth + 1) % 3, truth)
    theirs = np.where(random.random(200) < 0.05, (ours + 1) % 3, ours)
    found = gathered(f"{module}:right", truth, ours, theirs)
    lost = int(((ours == truth) & (theirs != truth)).sum())
    won = int(((ours != truth) & (theirs == truth)).sum())
    interval = known(found.interval)
    assert interval.method == TANGO
    assert (interval.low, interval.high) == pytest.approx(difference_bounds(lost, won, 200))
    assert interval.value == pytest.approx(found.candidate - known_number(found.reference))
    same = known(gathered(f"{module}:right", truth, ours, ours).interval)
    assert same.low < 0 < same.high, "200 equal answers do not prove that all are"
    needed = same.samples_to_decide(-0.001)
    assert difference_bounds(0, 0, needed)[0] >= -0.001 > difference_bounds(0, 0, needed - 1)[0]


def test_an_auroc_has_delongs(module: str) -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 80)
    ours = truth + random.normal(size=80)
    theirs = (ours + 0.3 * random.normal(size=80)).astype(np.float32)
    ours = ours.astype(np.float32)
    found = gathered(f"{module}:auroc", truth, ours, theirs)
    expected = auroc_interval(truth, ours, theirs)
    assert found.interval == expected
    assert expected.method == DELONG
    assert expected.value == pytest.approx(found.candidate - known_number(found.reference))
    # of a whole set's share only the difference's interval is known
    kept = known(found.kept)
    assert kept.low == pytest.approx(1 + expected.low / known_number(found.reference))


def test_an_auroc_of_one_sort_says_why_it_has_no_interval(module: str) -> None:
    found = gathered(f"{module}:auroc", np.zeros(4), np.arange(4.0), np.arange(4.0))
    assert found.interval is None
    assert found.why_not == "0 positive samples say nothing about spread"


def occupancy(count: int) -> tuple[PairedMetric, list[tuple[np.ndarray, ...]]]:
    """Three classes and free space on a small grid; the candidate spoils class b in some voxels."""
    random = np.random.default_rng(3)
    output = OutputSpec("occ", "uint8", (4, 4, 2), "occupancy-labels", {"free_class": 3})
    spec = ModelSpec(
        "v",
        "f",
        "occupancy",
        (),
        (output,),
        WeightsSource("random", seed=0),
        ("a", "b", "c", "free"),
    )
    run = Gathering(spec, "miou")
    info = [TensorInfo("occ", "uint8", (4, 4, 2))]
    run.declare_outputs(info, info)
    frames = []
    for index in range(count):
        truth = random.choice([0, 1, 3], (4, 4, 2)).astype(np.uint8)  # c never occurs
        ours = np.where(random.random(truth.shape) < 0.1, 3, truth).astype(np.uint8)
        spoiled = (ours == 1) & (random.random(truth.shape) < 0.3)
        theirs = np.where(spoiled, 3, ours).astype(np.uint8)
        labels = {f"label.{SEMANTICS}": truth, f"label.{MASK_CAMERA}": np.ones_like(truth)}
        run.add(f"s{index}", {"occ": ours}, {"occ": theirs}, labels)
        frames.append((truth, ours, theirs))
    return run.paired()[0], frames


def iou(frames: list[tuple[np.ndarray, ...]], label: int, which: int) -> float:
    both = sum(int(((f[0] == label) & (f[which] == label)).sum()) for f in frames)
    either = sum(int(((f[0] == label) | (f[which] == label)).sum()) for f in frames)
    return 100 * both / either


def test_every_class_that_occurs_has_its_own_interval() -> None:
    metric, frames = occupancy(30)
    assert [one.name for one in metric.classes] == ["a", "b"]
    for label, one in enumerate(metric.classes):
        assert one.reference == pytest.approx(iou(frames, label, 1))
        assert one.candidate == pytest.approx(iou(frames, label, 2))
    whole, spoiled = (known(one.interval) for one in metric.classes)
    assert (whole.low, whole.high) == (0.0, 0.0)
    assert spoiled.shows_loss


def test_the_share_that_is_kept_and_the_value_alone() -> None:
    metric, _ = occupancy(30)
    kept, alone = known(metric.kept), known(metric.alone)
    assert kept.value == pytest.approx(metric.candidate / known_number(metric.reference))
    assert alone.value == pytest.approx(metric.candidate)
    assert kept.high < 1.0
    assert alone.high - alone.low > 100 * (kept.high - kept.low) * 0.5, "paired is narrower"


def known(interval: PairedInterval | None) -> PairedInterval:
    assert interval is not None
    return interval


def known_number(value: float | None) -> float:
    assert value is not None
    return value
