"""What users say of inputs: taken from the graph where it says it, asked for where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calibration.samples.description import described, graph_inputs, read_description
from calibration.samples.sets import spec_for
from exporters.errors import UserError
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.modelfile import InputSpec, save_model
from tests.calibration import nets
from tests.calibration.sample_models import camera_spec

PICTURE = InputSpec("x", "float32", ("N", 3, 48, 64))
FULL = {"color": "RGB", "resize": "stretch", "scale": "1/255"}


def test_the_graph_says_what_it_knows() -> None:
    (item,) = described([FULL], [PICTURE]).inputs
    assert item == InputSpec(
        "x",
        "float32",
        (1, 3, 48, 64),
        "image",
        {
            "layout": "NCHW",
            "color_order": "RGB",
            "size": [48, 64],
            "resize": "stretch",
            "scale": 1 / 255,
        },
    )


def test_without_a_graph_everything_is_said() -> None:
    said = {"name": "x", "layout": "HWC", "color": "BGR", "size": "48x64", "resize": "crop:50"}
    (item,) = described([{**said, "dtype": "uint8"}]).inputs
    assert (item.shape, item.dtype) == ((48, 64, 3), "uint8")
    (item,) = described([{**said, "size": [48, 64], "mean": "1,2,3", "std": 2}]).inputs
    assert (item.details["mean"], item.details["std"]) == ([1, 2, 3], [2, 2, 2])
    (item,) = described([{"name": "p", "kind": "points", "rows": 100}]).inputs
    assert item.shape == (100, 4)


def test_inputs_that_nobody_speaks_of_are_judged_by_shape() -> None:
    graph = [
        PICTURE,
        InputSpec("p", "float32", (1, 512, 5)),
        InputSpec("n", "int32", (1,)),
        InputSpec("s", "float32", (1, 128)),
    ]
    spec = described([{"name": "x", **FULL}, {"name": "n", "kind": "point-count"}], graph)
    assert [item.semantics for item in spec.inputs] == ["image", "points", "point-count", "tensor"]
    assert spec.inputs[1].details["columns"] == ["x", "y", "z", "intensity", "ring"]


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 48, 64), "NCHW"),
        ((1, 48, 64, 3), "NHWC"),
        ((3, 48, 64), "CHW"),
        ((48, 64, 3), "HWC"),
        (("N", 3, "H", "W"), "NCHW"),
    ],
)
def test_layouts_are_read_from_shapes(shape: Any, layout: str) -> None:
    said = {**FULL, "size": "48x64"}
    assert (
        described([said], [InputSpec("x", "float32", shape)]).inputs[0].details["layout"] == layout
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "input 'x': nobody says its color. Give --color RGB|BGR|gray"),
        ({"color": "RGB"}, "input 'x': nobody says its resize. Give --resize stretch|letterbox"),
        ({"color": "RGB", "resize": "stretch"}, "nobody says on which scale. Give --scale 1 for"),
        ({**FULL, "color": "RBG"}, "unknown color 'RBG'. Did you mean 'RGB'?"),
        ({**FULL, "resize": "letterbox:3"}, "only crop takes a number. Write for example crop:256"),
        ({**FULL, "resize": "strech"}, "unknown resize 'strech'. Did you mean 'stretch'?"),
        ({**FULL, "size": "48"}, "size '48' is not HEIGHTxWIDTH"),
        ({**FULL, "size": "50x64"}, "is float32 ['N', 3, 48, 64] in the model, described as"),
        ({**FULL, "dtype": "uint8", "scale": 2}, "is uint8: scale would be rounded away"),
        ({**FULL, "scale": "1/0"}, "scale '1/0' is no number"),
        ({**FULL, "scale": 0}, "scale is 0"),
        ({**FULL, "mean": "1,2"}, "mean has 2 numbers for 3 channels"),
        ({**FULL, "colour": "RGB"}, "image has no key 'colour'. Did you mean 'color'?"),
        ({**FULL, "kind": "picture"}, "unknown kind 'picture'"),
        ({**FULL, "name": "y"}, "the model has no input 'y'. Known: x"),
        ({"kind": "points", "rows": 8, "columns": ["x", "i"]}, "unknown column 'i'"),
        ({"kind": "points", "rows": 0}, "has no fixed number of rows"),
        ({"kind": "points", "rows": 8, "range": [1, 2]}, "range is not x0, y0, z0, x1, y1, z1"),
    ],
)
def test_what_is_missing_or_wrong_is_named(said: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        described([said], [PICTURE])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "nobody says which inputs the samples are for. Give --model FILE, or --input NAME"),
        ([FULL], "a description does not say of which input it is. Give --input NAME"),
        ([{"name": "x", **FULL}], "input 'x': nobody says its layout"),
        ([{"name": "x", **FULL, "layout": "NCHW"}], "input 'x' has no fixed size"),
        ([{"name": "x"}], "nobody says what input 'x' is. Describe its kind"),
    ],
)
def test_without_a_graph_more_is_missing(items: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(UserError) as caught:
        described(items)
    assert words in str(caught.value)


def test_two_inputs_have_to_be_told_apart() -> None:
    graph = [PICTURE, InputSpec("y", "float32", (1, 8))]
    with pytest.raises(UserError, match=r"of which input it is\. Give --input: x, y"):
        described([FULL], graph)
    with pytest.raises(UserError, match="'x' is described twice"):
        described([{"name": "x", **FULL}, {"name": "x", **FULL}], graph)


def test_a_file_says_it(tmp_path: Path) -> None:
    path = tmp_path / "inputs.yaml"
    path.write_text("inputs:\n  - {name: x, color: RGB, resize: letterbox, scale: 1/255}\n")
    assert described(read_description(path), [PICTURE]).inputs[0].details["resize"] == "letterbox"
    for text, words in (
        ("x: [", "is no YAML"),
        ("[]", "has no list 'inputs'"),
        ("inputs: [1]", "no"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_description(path)
    with pytest.raises(UserError, match="cannot read"):
        read_description(tmp_path / "none.yaml")


def test_who_says_it(tmp_path: Path) -> None:
    foreign = nets.saved_bare(nets.residual(), tmp_path / "foreign.onnx")
    assert graph_inputs(foreign.proto) == (InputSpec("x", "float32", (1, 3, 32, 32)),)
    assert spec_for(foreign.path, FULL).inputs[0].semantics == "image"
    path = tmp_path / "inputs.yaml"
    path.write_text("inputs: [{color: RGB, resize: stretch, scale: 1}]")
    assert spec_for(foreign.path, None, path).inputs[0].details["scale"] == 1
    with pytest.raises(UserError, match="options and --describe both describe inputs"):
        spec_for(foreign.path, FULL, path)
    own = tmp_path / "own.onnx"
    save_model(foreign.proto, own, spec=camera_spec(nuscenes_like_rig()))
    assert spec_for(own).variant == "flashocc-nano"
    with pytest.raises(UserError, match=r"own\.onnx says itself what its inputs want"):
        spec_for(own, FULL)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.npz").write_bytes(b"")
    arrays = spec_for(foreign.path, source=str(tmp_path / "set"))
    assert arrays.inputs[0].semantics == "tensor", "arrays need no description"
