from __future__ import annotations

import copy
import importlib.resources
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings

from exporters.errors import UserError
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig, ring_rig
from exporters.flashocc.geometry import Grid, View
from exporters.flashocc.pooling import room_for
from exporters.flashocc.preprocess import describe_geometry
from exporters.flashocc.rig import Rig
from exporters.modelfile import ModelSpec, WeightsSource, save_model
from tests.exporters.flashocc.rigs import rigs

SCHEMA = json.loads(
    (importlib.resources.files("exporters.flashocc") / "rig.schema.json").read_text()
)


def valid() -> dict[str, Any]:
    return json.loads(json.dumps(four_camera_rig().to_json()))  # type: ignore[no-any-return]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(rigs())
@settings(max_examples=20)
def test_every_rig_validates_and_survives_json(rig: Rig) -> None:
    data = json.loads(json.dumps(rig.to_json()))
    jsonschema.validate(data, SCHEMA)
    again = Rig.from_json(data)
    assert again.sha256 == rig.sha256
    assert again.names == rig.names


def test_ego_pose_may_be_left_out() -> None:
    data = valid()
    for camera in data["cameras"]:
        del camera["ego2global"]
    jsonschema.validate(data, SCHEMA)
    assert Rig.from_json(data).sha256 == four_camera_rig().sha256


def blocks_of_the_docs(language: str) -> list[str]:
    text = (Path(__file__).parents[3] / "docs" / "your-own-rig.md").read_text()
    return [part.split("```")[0] for part in text.split(f"```{language}\n")[1:]]


@pytest.mark.data
def test_the_examples_of_the_docs_run(
    edgeport_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuscenes").symlink_to(edgeport_data / "nuscenes")
    capacity = room_for(nuscenes_like_rig(), View(), Grid())
    spec = ModelSpec(
        variant="flashocc-m0",
        family="flashocc",
        task="occupancy",
        inputs=(),
        outputs=(),
        weights=WeightsSource("random", seed=0),
        geometry=describe_geometry(View(), Grid(), capacity=capacity),
    )
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1] x) => (float[1] y) {y = Neg(x)}'
    )
    save_model(graph, tmp_path / "m0.onnx", spec=spec)
    names: dict[str, Any] = {}
    for block in blocks_of_the_docs("python"):
        exec(block, names)
    assert names["feeds"]["rig_cells"].shape == (200 * 200,)
    counts, place = capsys.readouterr().out.splitlines()
    assert [20_000 < int(n) < 27_000 for n in counts.strip("[]").split()] == [True] * 6
    row, column = map(int, place.split())
    assert abs(row - 100) <= 2  # CAM_FRONT is camera 1 and looks ahead
    assert abs(column - (100 + 21.7 / 0.4)) <= 2


def test_the_example_of_the_docs_is_a_rig() -> None:
    data = json.loads(blocks_of_the_docs("json")[0])
    jsonschema.validate(data, SCHEMA)
    assert Rig.from_json(data).names == ("CAM_FRONT",)


def broken(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A valid rig with one place replaced, or removed where ``value`` is None."""
    data = copy.deepcopy(valid())
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


CAMERA = ("cameras", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "edgeport.rig/9", r"schema is 'edgeport.rig/9', expected 'edgeport.rig/1'"),
        (("schema",), None, r"schema is None, expected .*docs/your-own-rig\.md"),
        (("cameras",), [], r"no cameras"),
        (("camera",), [], r"unknown key 'camera'.*Did you mean 'cameras'"),
        ((*CAMERA, "intrinsic"), [], r"cameras\[0\]: unknown key 'intrinsic'.*'intrinsics'"),
        ((*CAMERA, "intrinsics"), None, r"cameras\[0\]: 'intrinsics' is missing"),
        ((*CAMERA, "intrinsics"), [[1, 2], [3, 4]], r"intrinsics has shape \[2, 2\], expected"),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses_by_name(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    data = broken(path, value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)
    with pytest.raises(UserError, match=message):
        Rig.from_json(data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            (*CAMERA, "sensor2ego"),
            (np.eye(4) * 2).tolist(),
            r"sensor2ego is not a rotation and a translation.*quaternion order \(w, x, y, z\)",
        ),
        ((*CAMERA, "sensor2ego", 0, 3), float("nan"), r"sensor2ego holds NaN or infinite values"),
        ((*CAMERA, "intrinsics", 2, 2), 0.0, r"intrinsics is not invertible"),
    ],
)
def test_numbers_that_no_camera_can_have_are_refused(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Rig.from_json(broken(path, value))


def test_a_file_that_is_no_rig(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read rig .*missing\.json: No such file"):
        Rig.load(tmp_path / "missing.json")
    path = tmp_path / "rig.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"rig\.json is not JSON.*docs/your-own-rig\.md"):
        Rig.load(path)


def test_order_is_chosen_by_name() -> None:
    rig = nuscenes_like_rig()
    assert rig.ordered(rig.names[::-1]).names == rig.names[::-1]
    with pytest.raises(UserError, match=r"no camera 'CAM_FRNT'.*Did you mean 'CAM_FRONT'"):
        rig.ordered(["CAM_FRNT"])


def test_synthetic_rigs_are_rigs() -> None:
    for rig in (nuscenes_like_rig(), four_camera_rig(), ring_rig(5)):
        assert Rig.from_json(rig.to_json()).sha256 == rig.sha256
