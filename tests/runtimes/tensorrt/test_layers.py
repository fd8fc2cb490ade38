from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.errors import UserError
from runtimes.tensorrt.audit import audit, sort_of
from runtimes.tensorrt.layers import (
    Layer,
    Profile,
    dump_profile,
    profile_of,
    read_layers,
    read_profile,
)
from tests.runtimes.tensorrt import engine_layers as sample


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Layer, ...]:
    return read_layers(written(tmp_path / "layers.json", sample.LAYERS))


@pytest.fixture
def times(tmp_path: Path) -> Profile:
    return read_profile(written(tmp_path / "profile.json", sample.profile()))


def written(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_layer_information_is_read(layers: tuple[Layer, ...]) -> None:
    conv = layers[2]
    assert (conv.name, conv.kind, conv.weights) == (
        "conv1 + relu_conv1",
        "CaskConvolution",
        "int8",
    )
    assert conv.nodes == ("conv1", "relu_conv1")
    assert [(t.name, t.dtype) for t in (*conv.inputs, *conv.outputs)] == [
        ("a0", "int8"),
        ("a1", "int8"),
    ]


@pytest.mark.parametrize(
    ("entry", "dtype"),
    [
        ({"Format/Datatype": "Row major linear FP32"}, "fp32"),
        ({"Format/Datatype": "Two wide channel vectorized row major FP16 format"}, "fp16"),
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format": "Row major linear", "Datatype": "BFloat16"}, "bf16"),
        ({"Format/Datatype": "Row major Int8 format"}, "int8"),
        ({"Format/Datatype": "Row major linear INT32"}, "int32"),
        ({"Format/Datatype": "Row major linear UInt8"}, "uint8"),
        ({"Format/Datatype": "FP8"}, "fp8"),
        ({"Format/Datatype": "N/A due to dynamic shapes"}, ""),
    ],
)
def test_types_are_read_from_the_words_of_every_version(
    tmp_path: Path, entry: dict[str, str], dtype: str
) -> None:
    tensor = {"Name": "t", **entry}
    document = {"Layers": [{"Name": "l", "LayerType": "Reformat", "Inputs": [tensor]}]}
    (layer,) = read_layers(written(tmp_path / "l.json", document))
    assert layer.inputs[0].dtype == dtype


@pytest.mark.parametrize(
    ("document", "words", "fix"),
    [
        ({"Layers": ["conv1", "conv2"]}, "names of the layers and nothing else", "--layer-details"),
        ({"Layers": []}, "holds no layers", "--exportLayerInfo"),
        ([1, 2], "holds no layers", "--exportLayerInfo"),
        ("{", "is not layer information", "Write it again"),
        ({"Layers": [{"LayerType": "x"}]}, "is no layer information: KeyError('Name')", "Build"),
    ],
)
def test_what_is_no_layer_information(
    tmp_path: Path, document: object, words: str, fix: str
) -> None:
    with pytest.raises(UserError) as error:
        read_layers(written(tmp_path / "layers.json", document))
    assert words in str(error.value)
    assert fix in error.value.fix


def test_a_profile_comes_back_as_it_went(tmp_path: Path, times: Profile) -> None:
    assert times.runs == 10
    assert times.layers[2].average_ms == 1.0
    again = read_profile(written(tmp_path / "again.json", dump_profile(times)))
    assert again == times
    theirs, ours = sample.profile(), json.loads(dump_profile(times))
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    assert sum(row["percentage"] for row in ours[1:]) == pytest.approx(100)


def test_a_profile_without_medians_is_read(tmp_path: Path) -> None:
    row = {"name": "conv", "timeMs": 10.0, "averageMs": 1.0, "percentage": 100.0}
    path = written(tmp_path / "p.json", [{"count": 10}, row])
    assert read_profile(path).layers[0].median_ms == 1.0
    with pytest.raises(UserError, match="is no profile") as error:
        read_profile(written(tmp_path / "q.json", sample.LAYERS))
    assert "--exportProfile" in error.value.fix


def test_times_of_runs_become_a_profile() -> None:
    profile = profile_of({"a": [1.0, 2.0, 6.0], "b": [1.0, 1.0, 1.0]})
    assert profile.runs == 3
    assert [(t.time_ms, t.average_ms, t.median_ms) for t in profile.layers] == [
        (9.0, 3.0, 2.0),
        (3.0, 1.0, 1.0),
    ]


def test_layers_are_sorted(layers: tuple[Layer, ...]) -> None:
    assert {layer.name: sort_of(layer) for layer in layers} == {
        "to_half": "cast",
        "q_a": "quantize",
        "conv1 + relu_conv1": "compute int8",
        "conv2 + relu_conv2": "compute int8",
        "dq_a": "dequantize",
        "softmax": "compute fp16",
        "q_b": "quantize",
        "conv3 + relu_conv3": "compute int8",
        "dq_b": "dequantize",
    }


def test_the_islands_and_what_their_shores_cost(layers: tuple[Layer, ...], times: Profile) -> None:
    found = audit(layers, times)
    large, small = found.islands
    assert large.layers == ("conv1 + relu_conv1", "conv2 + relu_conv2")
    assert large.nodes == ("conv1", "relu_conv1", "conv2", "relu_conv2")
    assert large.borders == ("q_a", "dq_a")
    assert large.time_ms == pytest.approx(2.5)
    assert large.border_ms == pytest.approx(0.2)
    assert large.pays is None
    assert "more than 2.700 ms in FP16" in large.advice
    assert small.borders == ("q_b", "dq_b")
    assert small.pays is False
    assert small.advice.startswith("stay FP16: its borders cost 0.450 ms")
    assert found.total_ms == pytest.approx(3.75)
    assert found.sorts["quantize"].layers == 2
    assert found.sorts["quantize"].percent == pytest.approx(100 * 0.3 / 3.75)
    assert sum(share.percent for share in found.sorts.values()) == pytest.approx(100)
    assert found.costliest[0] == ("dq_b", "dequantize", 0.25)
    assert found.to_json()["evidence"] == "written"


def test_a_change_of_layout_inside_an_island_joins_it(tmp_path: Path) -> None:
    other = "Row major Int8 format"
    document = {
        "Layers": [
            sample.conv("one", "x", "y"),
            sample.layer(
                "turn", "Reformat", [sample.tensor("y", sample.INT8)], [sample.tensor("z", other)]
            ),
            sample.conv("two", "z", "w"),
        ]
    }
    (island,) = audit(read_layers(written(tmp_path / "l.json", document))).islands
    assert island.layers == ("one + relu_one", "turn", "two + relu_two")


def test_without_a_profile_the_islands_are_still_there(layers: tuple[Layer, ...]) -> None:
    found = audit(layers)
    assert len(found.islands) == 2
    assert found.islands[0].time_ms is None
    assert found.islands[0].advice == "no profile: its cost is not known"
    assert "add --profile" in found.notes[0]


def test_the_fp16_engine_decides(layers: tuple[Layer, ...], times: Profile) -> None:
    slower = profile_of({"all": [5.0]})
    faster = profile_of({"all": [3.0]})
    assert audit(layers, times, slower).notes == (
        "INT8 is faster: 3.750 ms in INT8, 5.000 ms in FP16",
    )
    assert audit(layers, times, faster).notes == ("stay FP16: 3.750 ms in INT8, 3.000 ms in FP16",)


def test_a_profile_of_another_engine_is_refused(layers: tuple[Layer, ...]) -> None:
    with pytest.raises(UserError, match="they are of two engines; the profile begins with 'other'"):
        audit(layers, profile_of({"other": [1.0]}))
    partly = profile_of({"other": [1.0], "softmax": [1.0]})
    assert audit(layers, partly).notes == ("1 layers of the profile are not in the engine",)


def test_a_compiled_region_is_said_to_hide_its_inside(tmp_path: Path) -> None:
    document = {"Layers": [sample.layer("{ForeignNode[a...b]}", "Myelin", [], [])]}
    notes = audit(read_layers(written(tmp_path / "l.json", document))).notes
    assert any("1 compiled regions show their borders only" in note for note in notes)
