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
from torch import nn

from exporters.errors import UserError
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.geometry import Grid, View, cell_indices
from exporters.flashocc.pooling import (
    BucketTables,
    Capacity,
    ColumnTables,
    PoolTables,
    bucket_tables,
    choose_tables,
    column_tables,
    room_for,
    table_names,
)
from exporters.flashocc.pooling_torch import TablePooling, make_pooling
from exporters.flashocc.rig import Rig
from exporters.trace import trace
from tests.exporters.flashocc.rigs import (
    SMALL_GRID,
    SMALL_VIEW,
    nuscenes_rig,
    pool_reference,
    random_features,
    rigs,
    turned,
)

# float32 against float64: a cell adds at most a few hundred products of size one, and each
# addition rounds by 6e-8; 1e-5 leaves a margin of ten over the largest error seen (1.8e-6).
TOLERANCE = 1e-5

FORMS = pytest.mark.parametrize("form", [column_tables, bucket_tables])


def run(module: nn.Module, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    with torch.no_grad():
        result: NDArray[np.float32] = module(*(torch.from_numpy(i) for i in inputs)).numpy()
    return result


def rolled(rig: Rig, camera: int, degrees: float) -> Rig:
    cameras = list(rig.cameras)
    cameras[camera] = turned(cameras[camera], roll=degrees)
    return Rig(tuple(cameras))


@FORMS
@given(rig=rigs())
@settings(max_examples=40)
def test_both_forms_equal_the_definition_for_any_rig(form: Any, rig: Rig) -> None:
    cells = cell_indices(rig, SMALL_VIEW, SMALL_GRID)
    depth, context = random_features(cells, channels=3)
    bev = run(make_pooling(form(cells, SMALL_GRID)), depth, context)
    expected = pool_reference(depth, context, cells, SMALL_GRID)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


@FORMS
@given(
    cells=st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(-1, 12, (2, 3, 4, 5)).astype(np.int32)
    )
)
@settings(max_examples=40)
def test_both_forms_equal_the_definition_for_any_cells(form: Any, cells: Any) -> None:
    """Cells that no camera could produce: nothing relies on geometry being smooth."""
    grid = Grid(x=(0.0, 4.0, 1.0), y=(0.0, 3.0, 1.0))
    depth, context = random_features(cells, channels=2)
    bev = run(make_pooling(form(cells, grid)), depth, context)
    expected = pool_reference(depth, context, cells, grid)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


@FORMS
@pytest.mark.parametrize("value", [-1, 0, 11])
def test_nothing_kept_and_everything_in_one_cell(form: Any, value: int) -> None:
    grid = Grid(x=(0.0, 4.0, 1.0), y=(0.0, 3.0, 1.0))
    cells = np.full((2, 3, 4, 5), value, np.int32)
    depth, context = random_features(cells, channels=2)
    bev = run(make_pooling(form(cells, grid)), depth, context)
    expected = pool_reference(depth, context, cells, grid)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


@given(rig=rigs(max_tilt=3.0))
@settings(max_examples=15)
def test_tables_as_inputs_equal_baked_tables(rig: Rig) -> None:
    cells = cell_indices(rig, SMALL_VIEW, SMALL_GRID)
    depth, context = random_features(cells, channels=3)
    capacity = column_tables(cells, SMALL_GRID).required.with_headroom()
    tables = column_tables(cells, SMALL_GRID, capacity).named()
    assert tuple(tables) == table_names(capacity)
    module = TablePooling(capacity, (SMALL_GRID.ny, SMALL_GRID.nx))
    bev = run(module, depth, context, *tables.values())
    expected = pool_reference(depth, context, cells, SMALL_GRID)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


def test_tables_of_one_capacity_have_one_shape_whatever_the_rig() -> None:
    view, grid, rig = View(), Grid(), nuscenes_like_rig()
    capacity = room_for(rig, view, grid)
    other = rolled(rig, 2, 1.0)
    shapes = [
        {n: (a.shape, a.dtype) for n, a in column_tables(c, grid, capacity).named().items()}
        for c in (cell_indices(rig, view, grid), cell_indices(other, view, grid))
    ]
    assert shapes[0] == shapes[1]
    assert Capacity.from_json(capacity.to_json()) == capacity


def test_a_rig_beyond_the_capacity_names_the_camera() -> None:
    view, grid, rig = View(), Grid(), nuscenes_like_rig()
    capacity = room_for(rig, view, grid)
    tilted = cell_indices(rolled(rig, 4, 30.0), view, grid)
    with pytest.raises(
        UserError, match=r"camera CAM_BACK needs \d+ groups .* has room for \d+\. .*--rig rig\.json"
    ):
        column_tables(tilted, grid, capacity, rig.names)


def test_crowded_cells_beyond_the_capacity_name_the_camera() -> None:
    grid = Grid(x=(0.0, 4.0, 1.0), y=(0.0, 3.0, 1.0))
    cells = np.full((2, 3, 4, 5), -1, np.int32)
    cells[1, 0] = 7  # five columns of camera 1 share cell 7
    with pytest.raises(UserError, match="camera right crowds 1 BEV cells with up to 5 groups"):
        column_tables(cells, grid, Capacity(4, ((2, 3), (4, 3))), ("left", "right"))
    assert column_tables(cells, grid, Capacity(4, ((2, 3), (8, 1)))).required.buckets == ((5, 1),)


def test_a_full_bucket_spills_into_a_wider_one() -> None:
    grid = Grid(x=(0.0, 4.0, 1.0), y=(0.0, 3.0, 1.0))
    cells = np.full((1, 3, 4, 5), -1, np.int32)
    cells[0, :, :, :2] = np.arange(3)[:, None, None]  # three cells of two groups each
    tables = column_tables(cells, grid, Capacity(4, ((2, 1), (16, 2))))
    depth, context = random_features(cells, channels=2)
    bev = run(make_pooling(tables), depth, context)
    expected = pool_reference(depth, context, cells, grid)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


def test_an_upright_rig_takes_columns_and_a_rolled_camera_buckets() -> None:
    view, grid, rig = View(), Grid(), nuscenes_like_rig()
    upright = choose_tables(cell_indices(rig, view, grid), grid)
    assert isinstance(upright, ColumnTables)
    assert upright.reason.startswith("column form: 15")
    tilted = choose_tables(cell_indices(rolled(rig, 1, 90.0), view, grid), grid)
    assert isinstance(tilted, BucketTables)
    assert tilted.reason.startswith("bucket form: ")
    assert "groups per image column" in tilted.reason


def test_tables_do_not_depend_on_the_run() -> None:
    cells = cell_indices(four_camera_rig(), View(), Grid())
    for form in (column_tables, bucket_tables):
        one, two = (make_pooling(form(cells, Grid())).state_dict(keep_vars=True) for _ in range(2))
        assert one == two == {}  # tables are no weights
    one_table, two_table = (column_tables(cells, Grid()).named() for _ in range(2))
    assert all(np.array_equal(one_table[name], two_table[name]) for name in one_table)
    assert all(table.dtype == np.int32 for n, table in one_table.items() if n != "rig_mask")


def test_a_hot_column_of_the_front_camera_lights_up_straight_ahead() -> None:
    """Depth 20 m in the middle column of CAM_FRONT: BEV row 100, column 100 + 20 / 0.4."""
    rig, view, grid = nuscenes_like_rig(), View(), Grid()
    cells = cell_indices(rig, view, grid)
    depth, context = np.zeros(cells.shape, np.float32), np.zeros((6, 1, 16, 44), np.float32)
    depth[1, 19] = 1.0
    context[1, :, :, 22] = 1.0
    bev = run(make_pooling(choose_tables(cells, grid)), depth, context)[0, 0]
    rows, columns = np.nonzero(bev)
    assert len(rows)
    assert abs(rows - 100).max() <= 1
    assert abs(columns - (100 + (20 + 1.7) / 0.4)).max() <= 1  # the camera sits at x = 1.7 m


@pytest.mark.data
@FORMS
def test_both_forms_equal_the_definition_on_a_real_rig(edgeport_data: Path, form: Any) -> None:
    rig = nuscenes_rig(edgeport_data / "nuscenes" / "fd8420396768425eabec9bdddf7e64b6")
    cells = cell_indices(rig, View(), Grid())
    depth, context = random_features(cells, channels=16)
    bev = run(make_pooling(form(cells, Grid())), depth, context)
    expected = pool_reference(depth, context, cells, Grid())
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.data
@pytest.mark.parametrize("view", [View(), View(depth=(1.0, 45.0, 0.5))], ids=["m0", "m1"])
def test_room_for_a_synthetic_rig_holds_real_ones(edgeport_data: Path, view: View) -> None:
    grid = Grid()
    capacity = room_for(nuscenes_like_rig(), view, grid)
    for folder in sorted((edgeport_data / "nuscenes").iterdir()):
        cells = cell_indices(nuscenes_rig(folder), view, grid)
        assert column_tables(cells, grid, capacity).capacity == capacity


@pytest.mark.parametrize("baked", ["columns", "buckets", None])
def test_exported_graph_uses_standard_operators_and_equals_the_definition(
    baked: str | None,
) -> None:
    cells = cell_indices(four_camera_rig(), SMALL_VIEW, SMALL_GRID)
    depth, context = random_features(cells, channels=8)
    inputs = {"depth": depth, "context": context}
    if baked is None:
        capacity = column_tables(cells, SMALL_GRID).required.with_headroom()
        inputs |= column_tables(cells, SMALL_GRID, capacity).named()
        module: nn.Module = TablePooling(capacity, (SMALL_GRID.ny, SMALL_GRID.nx))
    else:
        form = column_tables if baked == "columns" else bucket_tables
        tables: PoolTables = form(cells, SMALL_GRID)
        module = make_pooling(tables)

    model = trace(module, {n: torch.from_numpy(a) for n, a in inputs.items()}, ["bev"])
    assert {node.domain for node in model.graph.node} == {""}
    allowed = {"Transpose", "Reshape", "Gather", "Mul", "MatMul", "ReduceSum", "Concat"}
    assert {node.op_type for node in model.graph.node} <= allowed
    assert index_types(model) == {onnx.TensorProto.INT32}

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (bev,) = session.run(None, inputs)
    assert np.array_equal(bev, session.run(None, inputs)[0])
    expected = pool_reference(depth, context, cells, SMALL_GRID)
    np.testing.assert_allclose(bev, expected, atol=TOLERANCE, rtol=0)


def index_types(model: onnx.ModelProto) -> set[int]:
    """Element types of everything that a Gather is indexed by."""
    types = {i.name: i.data_type for i in model.graph.initializer}
    types |= {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    return {types[node.input[1]] for node in model.graph.node if node.op_type == "Gather"}
