"""Several processes find what one finds; RayIoU and RayPQ by name, over sets of samples."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from calibration.samples import InMemorySamples
from calibration.samples.world.solids import Label
from calibration.sensitivity.noise import Workers
from deploy.cli import run
from deploy.metrics.occupancy import OccupancyMIoU
from deploy.metrics.rays.casting import VoxelGrid
from deploy.metrics.rays.iou import RayIoU
from deploy.metrics.rays.pq import RayPQ
from deploy.verification import verify
from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, WeightsSource, save_model

SHAPE = (40, 40, 16)
GRID = VoxelGrid((-8.0, -8.0, -1.0), 0.4)
CLASSES = tuple(label.name for label in Label)
CAR, ROAD, FREE = CLASSES.index("car"), CLASSES.index("driveable_surface"), 17

SAME = """<ir_version: 8, opset_import: ["" : 17]>
g (uint8[40,40,16] scene, uint16[40,40,16] number) => (uint8[40,40,16] labels,
                                                       uint16[40,40,16] ids) {
    labels = Identity(scene)
    ids = Identity(number)
}"""
# everything one voxel further ahead, as a network does that misjudges distances
AHEAD = """<ir_version: 8, opset_import: ["" : 17]>
g (uint8[40,40,16] scene, uint16[40,40,16] number) => (uint8[40,40,16] labels,
                                                       uint16[40,40,16] ids)
  <int64[1] first = {0}, int64[1] one = {1}, int64[1] last = {39}, int64[1] end = {40}> {
    front = Slice(scene, first, last, first)
    back = Slice(scene, last, end, first)
    labels = Concat<axis=0>(back, front)
    ids = Identity(number)
}"""


def spec_with(*outputs: OutputSpec) -> ModelSpec:
    inputs = tuple(
        InputSpec(name, dtype, SHAPE) for name, dtype in (("scene", "uint8"), ("number", "uint16"))
    )
    return ModelSpec(
        "toy", "toy", "occupancy", inputs, outputs, WeightsSource("random", seed=0), CLASSES
    )


LABELS = OutputSpec(
    "labels",
    "uint8",
    SHAPE,
    "occupancy-labels",
    {
        "axes": ["x", "y", "z"],
        "free_class": FREE,
        "origin_m": list(GRID.corner_m),
        "voxel_m": [0.4] * 3,
    },
)
IDS = OutputSpec("ids", "uint16", SHAPE, "instance-ids")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "same.onnx", tmp_path / "ahead.onnx"
    for path, text in zip(paths, (SAME, AHEAD), strict=True):
        save_model(parser.parse_model(text), path, spec=spec_with(LABELS, IDS))
    return paths


def street(seed: int) -> dict[str, np.ndarray]:
    """A scene that is its own ground truth but for a few voxels."""
    rng = np.random.default_rng(seed)
    truth = np.full(SHAPE, FREE, np.uint8)
    truth[:, :, 1] = ROAD
    instances = np.zeros(SHAPE, np.uint8)
    for number in range(1, 4):
        x, y = rng.integers(0, 34, 2)
        truth[x : x + 6, y : y + 4, 2:6] = CAR
        instances[x : x + 6, y : y + 4, 2:6] = number
    scene = truth.copy()
    scene[rng.random(SHAPE) < 0.003] = ROAD
    return {
        "scene": scene,
        "number": instances.astype(np.uint16),
        "label.semantics": truth,
        "label.mask_camera": (rng.random(SHAPE) < 0.9).astype(np.uint8),
        "label.instances": instances,
        "label.ray_origins": np.array([[0.0, 0.0, 1.0], [2.0 + seed % 3, 1.0, 1.0]]),
    }


def streets(count: int = 4) -> InMemorySamples:
    return InMemorySamples([street(seed) for seed in range(count)])


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A Dask scheduler with two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


NAMES = "miou,rayiou,raypq"


def test_values_are_those_of_the_whole_set(files: tuple[Path, Path]) -> None:
    comparison = verify(*files, streets(), metric=NAMES)
    found = {metric.name: metric for metric in comparison.task_metrics}
    assert list(found) == [
        "miou",
        *(f"{name}{at}" for name in ("rayiou", "raypq") for at in ("", "@1", "@2", "@4")),
    ]
    for side, shift in (("reference", 0), ("candidate", 1)):
        miou, rays, quality = OccupancyMIoU(), RayIoU(grid=GRID), RayPQ(grid=GRID)
        for sample in streets():
            labels = np.roll(sample["scene"], shift, axis=0)
            truth, ids = sample["label.semantics"], sample["label.instances"]
            origins = sample["label.ray_origins"]
            miou.update(labels, {"semantics": truth, "mask_camera": sample["label.mask_camera"]})
            rays.update(labels, truth, origins)
            quality.update((labels, sample["number"]), (truth, ids), origins)
        expected = {"miou": miou.value(), "rayiou": rays.value(), "raypq": quality.value()}
        for row, at in enumerate((1, 2, 4)):
            expected[f"rayiou@{at}"] = float(np.nanmean(rays.iou[row]))
            expected[f"raypq@{at}"] = float(np.nanmean(quality.quality[row]))
        assert {k: getattr(m, side) for k, m in found.items()} == pytest.approx(expected)
    for name in ("rayiou", "raypq"):  # of the last round: the candidate
        table = rays.iou if name == "rayiou" else quality.quality
        classes = {metric.name: metric.candidate for metric in found[name].classes}
        assert classes["car"] == pytest.approx(float(np.nanmean(table[:, CAR])))
        assert set(classes) == {"car", "driveable_surface"}
    assert found["miou"].interval is not None
    assert found["rayiou"].loss > 0


@pytest.mark.parametrize("backend", ["joblib", "dask"])
def test_processes_find_what_one_process_finds(
    backend: str, files: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    workers = (
        Workers("joblib", jobs=2)
        if backend == "joblib"
        else Workers("dask", scheduler=request.getfixturevalue("scheduler"))
    )
    seen: list[tuple[str, int, int]] = []
    together = verify(
        *files,
        streets(),
        metric=NAMES,
        workers=workers,
        progress=lambda phase, done, total: seen.append((phase, done, total)),
    )
    assert together.to_json() == verify(*files, streets(), metric=NAMES, threads=1).to_json()
    assert seen == [("samples", index, 4) for index in (1, 2, 3, 4)]


def test_a_killed_worker_costs_nothing(files: tuple[Path, Path]) -> None:
    """Sent SIGKILL when the first finding is in; the comparison is that of one process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as cluster:
        victims = [worker.pid for worker in cluster.workers.values()]

        def kill_one(_phase: str, done: int, _total: int) -> None:
            if done in (1, 5):
                os.kill(victims.pop(), signal.SIGKILL)

        together = verify(
            *files,
            streets(8),
            metric=NAMES,
            workers=Workers("dask", scheduler=cluster.scheduler_address),
            progress=kill_one,
        )
    assert not victims
    assert together.to_json() == verify(*files, streets(8), metric=NAMES, threads=1).to_json()


def test_the_command_line_takes_jobs_and_names(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    for index, sample in enumerate(streets(3)):
        np.savez(folder / f"{index}.npz", **sample)
    arguments = ["verify", *map(str, files), "--samples", str(folder), "--metric", "rayiou"]
    found = []
    for more in (["--jobs", "2"], ["--threads", "1"]):
        assert run([*arguments, *more, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert [m["name"] for m in found[0]["paired"]][:2] == ["rayiou", "rayiou@1"]
    assert run([*arguments, "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "--jobs is for this machine" in capsys.readouterr().err


def test_a_bad_sample_is_named_wherever_it_is_met(files: tuple[Path, Path]) -> None:
    samples = [street(0), street(1)]
    samples[1]["scene"] = samples[1]["scene"][:3]
    with pytest.raises(UserError, match=r"sample 'sample-1': .*scene"):
        verify(*files, InMemorySamples(samples), workers=Workers("joblib", jobs=2))


def test_a_users_function_is_found_by_the_workers(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_elsewhere.py").write_text(
        "import numpy as np\n"
        "def hits(outputs, sample):\n"
        "    return float((outputs['labels'] == sample['label.semantics']).mean())\n"
        "class Whole:\n"
        "    def update(self, outputs, sample): pass\n"
        "    def value(self): return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    workers = Workers("joblib", jobs=2)
    comparison = verify(*files, streets(), metric="mine_elsewhere:hits", workers=workers)
    expected = np.mean([(s["scene"] == s["label.semantics"]).mean() for s in streets()])
    assert comparison.metric is not None
    assert comparison.metric.reference == pytest.approx(expected)
    with pytest.raises(UserError, match=r"mine_elsewhere:Whole is a class that sees every output"):
        verify(*files, streets(), metric="mine_elsewhere:Whole", workers=workers)


@pytest.mark.parametrize(
    ("metric", "absent", "words"),
    [
        ("rayiou", "label.ray_origins", r"no ground truth ray_origins \(it has"),
        ("raypq", "label.instances", "no ground truth instances"),
        ("miou", "label.mask_camera", "no ground truth 'mask_camera'"),
        ("rayiuo", "", "unknown metric 'rayiuo'"),
        ("miou,miou", "", "names a metric twice"),
    ],
)
def test_what_a_metric_lacks_is_said(
    metric: str, absent: str, words: str, files: tuple[Path, Path]
) -> None:
    samples = [{k: v for k, v in street(seed).items() if k != absent} for seed in range(2)]
    with pytest.raises(UserError, match=words):
        verify(*files, InMemorySamples(samples), metric=metric)


def test_ray_pq_needs_an_output_with_instances(tmp_path: Path) -> None:
    path = tmp_path / "labels.onnx"
    save_model(parser.parse_model(SAME), path, spec=spec_with(LABELS))
    with pytest.raises(UserError, match="no output of instance ids, which RayPQ needs"):
        verify(path, path, streets(2), metric="raypq")
