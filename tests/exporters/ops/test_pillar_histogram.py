"""Both bodies and the torch operator against NumPy: the same integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporters.ops import pillar_histogram as ph

LOW, STEP, SIZE = (-2.0, -3.0, -1.0), (0.5, 0.75, 0.25), (8, 8, 12)
EGO, PILLARS = 0.5, 40


def session(body: onnx.FunctionProto, rows: int, **numbers: Any) -> ort.InferenceSession:
    return ort.InferenceSession(graph_of(body, rows, **numbers).SerializeToString())


def graph_of(body: onnx.FunctionProto, rows: int, **numbers: Any) -> onnx.ModelProto:
    helper, kinds = onnx.helper, onnx.TensorProto
    outputs = dict(zip(ph.OUTPUTS, (kinds.INT64,) * 2 + (kinds.INT32,) * 2, strict=True))
    attributes = {"low": LOW, "step": STEP, "size": SIZE, "scale": 255.0, "ego": EGO}
    attributes |= {"pillars": PILLARS, **numbers}
    node = helper.make_node(body.name, ["points"], list(outputs), domain="edgeport", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("points", kinds.FLOAT, [rows, 4])],
        [helper.make_tensor_value_info(name, kind, [rows]) for name, kind in outputs.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("edgeport", 1)]
    model = helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return model


def expected(points: NDArray[np.float32], pillars: int) -> list[NDArray[Any]]:
    index = np.floor((points[:, :3] - np.float32(LOW)) / np.float32(STEP))
    taken = np.isfinite(points).all(axis=1) & ((index >= 0) & (index < SIZE)).all(axis=1)
    taken &= (np.abs(points[:, :2]) >= EGO).any(axis=1)
    if not taken.any():
        return [np.zeros(len(points), np.int64)] * 4
    x, y, z = np.where(taken[:, None], index, 0).astype(np.int64).T
    places = y * SIZE[0] + x
    number = np.searchsorted(np.unique(places[taken]), places)
    taken &= number < pillars
    first = taken.argmax()
    slots = number * SIZE[2] + z
    places, slots = (np.where(taken, value, value[first]) for value in (places, slots))
    levels = np.clip(np.rint(np.where(taken, points[:, 3], 0) * 255), 0, 255)
    counts, sums = (np.bincount(slots, weights, 768) for weights in (taken, levels * taken))
    return [places, slots, counts[slots], sums[slots]]


def cloud(seed: int, rows: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    points = random.uniform((-2.5, -3.5, -1.5, 0), (2.5, 3.5, 2.5, 1), (rows, 4))
    points[rows // 2 :] = random.choice(points, rows - rows // 2)
    return points.astype(np.float32)


ROWS = 257
BODIES = ph.functions(PILLARS * 12)


@pytest.fixture(scope="module", params=[0, 1], ids=[body.name for body in BODIES])
def body(request: pytest.FixtureRequest) -> ort.InferenceSession:
    return session(BODIES[request.param], ROWS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NaN in the oracle's floor
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bad=st.integers(0, ROWS))
def test_integers_are_equal(body: ort.InferenceSession, seed: int, bad: int) -> None:
    """There is room for 40 of up to 64 pillars."""
    points = cloud(seed, ROWS)
    values = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    places = np.random.default_rng(seed).integers(0, ROWS, bad)
    points[places, places % 4] = values[places % 3]
    wanted = expected(points, PILLARS)
    eager = ph.pillar_histogram(torch.from_numpy(points), LOW, STEP, SIZE, 255.0, PILLARS, EGO)
    for found, other, value in zip(body.run(None, {"points": points}), eager, wanted, strict=True):
        np.testing.assert_array_equal(found, value)
        np.testing.assert_array_equal(other, value)


def test_two_points_in_one_cell_are_two(body: ort.InferenceSession) -> None:
    points = np.full((ROWS, 4), -1e4, np.float32)
    points[[3, 200]] = (1.1, 1.1, 0.1, 0.5)
    places, slots, counts, sums = body.run(None, {"points": points})
    assert set(places.tolist()) == {5 * 8 + 6}
    assert set(slots.tolist()) == {4}  # the first pillar that has points, bin 4
    assert counts.tolist() == [2] * ROWS  # rows outside repeat the first one inside
    assert set(sums.tolist()) == {256}  # 127.5 rounds to even


def test_real_scans_give_the_same_integers(edgeport_data: Path) -> None:
    size, rows = (432, 496, 64), 20_480
    grid = {"low": (0.0, -39.68, -3.0), "step": (0.16, 0.16, 0.0625), "size": size, "ego": 0.0}
    bodies = ph.functions(rows * 64)
    sessions = [session(body, rows, pillars=rows, **grid) for body in bodies]
    for file in sorted((edgeport_data / "kitti/training/velodyne_reduced").glob("*.bin"))[:3]:
        scan = np.fromfile(file, np.float32).reshape(-1, 4)[:rows]
        points = np.full((rows, 4), -1e4, np.float32)
        points[: len(scan)] = scan
        adding, sorting = (s.run(None, {"points": points}) for s in sessions)
        for a, b in zip(adding, sorting, strict=True):
            np.testing.assert_array_equal(a, b)


def test_pillars_beyond_the_room_do_not_count(body: ort.InferenceSession) -> None:
    """Whatever the order of the points: pillars are numbered by their places."""
    points = cloud(0, ROWS)
    shuffle = np.random.default_rng(1).permutation(ROWS)
    found, other = (body.run(None, {"points": value}) for value in (points, points[shuffle]))
    assert len(np.unique(expected(points, 64)[0])) > PILLARS
    assert len(np.unique(found[0])) == PILLARS
    first, second = ({tuple(row) for row in np.stack(value, axis=1)} for value in (found, other))
    assert first == second


def test_the_sorting_body_adds_nothing_and_repeats_no_index() -> None:
    """TensorRT-RTX refuses a scatter that adds, and TensorRT 8 ignores that it should."""
    kinds = [node for node in BODIES[1].node if node.op_type.startswith("Scatter")]
    assert kinds
    assert not any(a.name == "reduction" for node in kinds for a in node.attribute)


@pytest.mark.parametrize("rows", [30, ROWS], ids=["fewer rows than pillars", "more"])
def test_tensorrt_rtx_builds_the_sorting_body(tmp_path: Path, rows: int) -> None:
    """It takes no scatter with more indices than places, as ten sweeps of nuScenes would have."""
    pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    from exporters.modelfile import ModelFile
    from runtimes import registry

    path = tmp_path / "m.onnx"
    onnx.save(graph_of(BODIES[1], rows), path)
    engine = registry.get("tensorrt").build(ModelFile(path), tmp_path / "m.engine")
    assert engine.path.stat().st_size > 1000
