"""``edgeport export``, ``models`` and ``inspect`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

from deploy import cli
from deploy.inspection import inspect_model
from exporters import export
from exporters.errors import EXIT_OK, EXIT_USER
from exporters.modelfile import ModelFile


@pytest.fixture(autouse=True)
def only_these_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("models", "export", "inspect"))


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return export("flashocc-nano", tmp_path_factory.mktemp("mini") / "mini.onnx").model


def words_of(*argv: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.run([str(item) for item in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_models_lists_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = words_of("models", capsys=capsys)
    assert code == EXIT_OK
    for word in ("flashocc-m0", "flashocc-m1", "mIoU 31.95 %", "published by its authors"):
        assert word in out
    code, out, _ = words_of("models", "--json", capsys=capsys)
    listed = {item["name"]: item for item in json.loads(out)["variants"]}
    assert listed["flashocc-m1"]["published"]["miou_percent"] == 32.08


def test_export_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    code, out, _ = words_of("export", "flashocc-nano", "-o", path, capsys=capsys)
    assert code == EXIT_OK
    assert "random weights, seed 0: labels of this model mean nothing" in out
    assert "synthetic rig baked in" in out
    assert "agrees with PyTorch" in out
    assert f"edgeport inspect {path}" in out
    assert path.is_file()


def test_export_prints_the_mapping_report_and_takes_every_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporters.flashocc.config import NANO
    from exporters.flashocc.model import FlashOcc

    weights, path = tmp_path / "w.pth", tmp_path / "m.onnx"
    state = FlashOcc(NANO, torch.nn.Identity()).state_dict()
    torch.save({"state_dict": {f"module.{name}": v for name, v in state.items()}}, weights)
    code, out, err = words_of(
        *("export", "flashocc", "-o", path, "--checkpoint", weights, "--rig", "input"),
        *("--input", "float", "--logits", "--image-size", "64x176", "--depth", "1:45:2"),
        "--grid=-40:40:2,-40:40:2,-1:5.4:1.6",
        capsys=capsys,
    )
    assert code == EXIT_OK, err
    assert "loaded 214 tensors" in out
    assert "renamed 214, for example module.img_backbone.conv1.weight" in out
    spec = ModelFile(path).require_spec()
    assert spec.outputs[0].semantics == "occupancy-logits"
    assert spec.weights.kind == "checkpoint"


def test_every_option_of_instances_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    code, out, err = words_of(
        *("export", "panoptic-flashocc-nano", "-o", path, "--class-map", "compat"),
        *("--max-centres", "60", "--score-threshold", "0.2", "--thing-voxels", "4096"),
        capsys=capsys,
    )
    assert code == EXIT_OK, err
    assert "equal those of the numpy form" in out
    file = ModelFile(path)
    rules = file.require_spec().geometry["centres"]
    assert (rules["class_map"], rules["max_centres"]) == ("compat", 60)
    assert (rules["score_threshold"], rules["thing_voxels"]) == (0.2, 4096)
    (top,) = (node for node in file.proto.graph.node if node.op_type == "TopK")
    shapes = {
        value.name: value
        for value in onnx.shape_inference.infer_shapes(file.proto, data_prop=True).graph.value_info
    }
    assert shapes[top.output[0]].type.tensor_type.shape.dim[-1].dim_value == 60


def test_a_memory_pooled_anew_is_chosen_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.exporters.panoptic_flashocc.nets import OPTIONS, random_network, remembering, saved

    weights, path = saved(random_network(remembering(2)), tmp_path), tmp_path / "m.onnx"
    options = [f"--{key.replace('_', '-')}={value}" for key, value in OPTIONS.items()]
    for history, states in (("online", 2), ("offline", 0)):
        code, _, err = words_of(
            *("export", "panoptic-flashocc", "-o", path, "--checkpoint", weights, *options),
            *("--rig", "input", "--history", history, "--overwrite"),
            capsys=capsys,
        )
        assert code == EXIT_OK, err
        spec = ModelFile(path).require_spec()
        assert len(spec.states) == states
        assert ("history_motion" in {port.name for port in spec.inputs}) == (history == "online")


def test_export_with_json_prints_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    code, out, err = words_of("export", "flashocc-nano", "-o", path, "--json", capsys=capsys)
    result = json.loads(out)
    assert code == EXIT_OK
    assert err == ""
    assert result["sha256"] == ModelFile(path).sha256
    assert result["agreement"]["holds"] is True
    assert set(result["seconds"]) == {"read", "geometry", "weights", "trace", "compare", "write"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["flashocc-m9"], ["unknown variant 'flashocc-m9'", "Did you mean"]),
        (["flashocc-m0", "--checkpoint", "absent.pth"], ["no checkpoint at absent.pth"]),
        (["flashocc-m0", "--rig", "absent.json"], ["cannot read rig absent.json"]),
        (["flashocc-m0", "--image-size", "250x700"], ["250", "multiple of the stride"]),
        (["flashocc-m0", "--input", "int8"], ["Choose uint8, camera or float"]),
        (["flashocc"], ["recognised from a checkpoint", "--checkpoint FILE"]),
        (["panoptic-flashocc-nano", "--class-map", "compatible"], ["Did you mean 'compat'"]),
        (["panoptic-flashocc-nano", "--max-centres", "5000"], ["1 to 3840", "TopK"]),
        (["panoptic-flashocc-nano", "--score-threshold", "1.5"], ["--score-threshold is 1.5"]),
        (["panoptic-flashocc-nano", "--thing-voxels", "0"], ["--thing-voxels is 0"]),
        (["panoptic-flashocc-8f", "--history", "both"], ["online or offline"]),
        (["panoptic-flashocc-8f", "--history", "offline"], ["Add --rig input"]),
    ],
)
def test_export_refuses_in_one_line(
    argv: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = words_of("export", *argv, "-o", tmp_path / "m.onnx", capsys=capsys)
    assert code == EXIT_USER
    assert out == ""
    for word in words:
        assert word in err
    assert len([line for line in err.splitlines() if line.startswith("edgeport:")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_inspect_shows_a_model_file(mini: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = words_of("inspect", mini.path, capsys=capsys)
    assert code == EXIT_OK
    for word in (
        "flashocc-nano (flashocc, occupancy), random weights, seed 0",
        "opset ai.onnx 17; IR version 8",
        "occupancy-labels",
        "Conv",
        "6 cameras, baked in",
        "class logits",
        "vegetation, free",
    ):
        assert word in out, word


def test_inspect_counts(mini: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = words_of("inspect", mini.path, "--json", capsys=capsys)
    found = json.loads(out)
    assert code == EXIT_OK
    assert found["operators"]["Conv"] == 43
    assert sum(found["operators"].values()) == found["nodes"] == len(mini.proto.graph.node)
    assert found["inputs"] == [{"name": "images", "dtype": "uint8", "shape": [6, 64, 176, 3]}]
    assert found["spec"]["variant"] == "flashocc-nano"
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in mini.proto.graph.initializer]
    assert sum(found["weights_bytes"].values()) == sum(array.nbytes for array in arrays)
    floats = sum(array.size for array in arrays if array.dtype == np.float32)
    assert found["parameters"] == floats


def small_model(tmp_path: Path, text: str) -> ModelFile:
    path = tmp_path / "small.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return ModelFile(path)


def test_inspect_knows_what_is_quantized(tmp_path: Path) -> None:
    model = small_model(
        tmp_path,
        """<ir_version: 8, opset_import: ["" : 17]>
        main (float[1, 2, 4, "w"] x) => (float[1, 3, 4, w] y)
        <float s = {0.1}, int8 z = {0}, int8[3, 2, 1, 1] w8 = {1, 2, 3, 4, 5, 6}> {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            wd = DequantizeLinear(w8, s, z)
            a = Conv(d, wd)
            r = Relu(a)
            wf = Constant<value = float[3, 3, 1, 1] {1, 0, 0, 0, 1, 0, 0, 0, 1}>()
            y = Conv(r, wf)
        }""",
    )
    passport = inspect_model(model)
    assert passport.quantized == {"Conv": (1, 2)}
    assert passport.weights_bytes == {"float32": 40, "int8": 7}
    assert passport.inputs[0].shape == (1, 2, 4, "w")
    assert passport.spec is None


def test_inspect_shows_a_foreign_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    code, out, _ = words_of("inspect", small_model(tmp_path, text).path, capsys=capsys)
    assert code == EXIT_OK
    assert "carries no edgeport self-description" in out


def test_inspect_shows_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from exporters.files import sha256_bytes
    from runtimes.base import Evidence, Passport
    from runtimes.passport import dump, passport_path

    engine = tmp_path / "m.engine"
    engine.write_bytes(b"engine")
    passport = Passport(
        runtime="tensorrt-rtx",
        runtime_version="1.7.1.116",
        evidence=Evidence.BUILT,
        compute_capabilities=("8.9",),
        model_sha256="ab" * 32,
        engine_sha256=sha256_bytes(b"engine"),
        size_bytes=6,
        build_s=1.5,
        model={"variant": "flashocc-m0"},
        log={"weights_bytes": 123},
    )
    passport_path(engine).write_text(dump(passport))
    code, out, _ = words_of("inspect", engine, capsys=capsys)
    assert code == EXIT_OK
    for word in ("tensorrt-rtx 1.7.1.116", "built", "8.9", "flashocc-m0", "abab", "123"):
        assert word in out, word
    code, out, _ = words_of("inspect", engine, "--json", capsys=capsys)
    assert json.loads(out)["evidence"] == "built"


def broken_files(tmp_path: Path, mini: ModelFile) -> dict[str, Any]:
    text, cut = tmp_path / "text.onnx", tmp_path / "cut.onnx"
    text.write_text("<html>no</html>")
    cut.write_bytes(mini.path.read_bytes()[:1000])
    return {"text": text, "cut": cut, "absent": tmp_path / "absent.onnx", "folder": tmp_path}


@pytest.mark.parametrize("kind", ["text", "cut", "absent", "folder"])
def test_inspect_refuses(
    kind: str, mini: ModelFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_files(tmp_path, mini)[kind]
    code, out, err = words_of("inspect", path, capsys=capsys)
    assert code == EXIT_USER
    assert out == ""
    assert str(path) in err
