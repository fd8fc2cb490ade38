"""Models with their weights in files of their own: read with distrust, written all or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import modelfile
from exporters.errors import UserError
from exporters.external import data_path, payload_bytes
from exporters.modelfile import ModelFile, save_model
from exporters.validity import tensors_of


def model(fill: float = 1.0) -> onnx.ModelProto:
    """``y = x W + b`` with 4 KB of weights, and a constant in the branch of an If."""
    weight = np.full((32, 32), fill, np.float32)
    constant = numpy_helper.from_array(np.full(512, 2.0, np.float32), "")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=constant)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [512])],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [512]),
        ],
        [
            numpy_helper.from_array(weight, "W"),
            numpy_helper.from_array(np.ones(32, np.float32), "b"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model file whose tensors lie in ``weights.bin``."""
    file = tmp_path / "folder" / "m.onnx"
    file.parent.mkdir()
    onnx.save_model(
        model(), file, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return file


def with_location(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> Path:
    """The model at ``path`` with another entry for the data of its first tensor."""
    proto = onnx.load(path, load_external_data=False)
    tensor = proto.graph.initializer[0]
    entries = change({entry.key: entry.value for entry in tensor.external_data})
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


# ------------------------------------------------------------------ reading


def test_all_tensors_are_read(path: Path) -> None:
    proto = ModelFile(path).proto
    assert all(t.data_location == TensorProto.DEFAULT for t in tensors_of(proto))
    np.testing.assert_array_equal(
        numpy_helper.to_array(proto.graph.initializer[0]), np.ones((32, 32), np.float32)
    )


def test_the_hash_and_the_size_are_of_all_files(path: Path) -> None:
    before = ModelFile(path)
    sha256 = before.sha256
    assert before.data_files == (path.parent / "weights.bin",)
    assert before.size_bytes == sum(f.stat().st_size for f in path.parent.iterdir())
    data = bytearray((path.parent / "weights.bin").read_bytes())
    data[0] ^= 1
    (path.parent / "weights.bin").write_bytes(bytes(data))
    assert ModelFile(path).sha256 != sha256


def test_one_reading_serves_the_graph_and_the_hash(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, read, parsed = ModelFile(path).sha256, [], modelfile._parsed

    def counted(file: Path) -> onnx.ModelProto:
        read.append(file)
        return parsed(file)

    monkeypatch.setattr(modelfile, "_parsed", counted)
    file = ModelFile(path)
    assert tensors_of(file.proto)
    assert file.sha256 == alone
    assert read == [path]


def test_a_file_without_data_files_has_its_own_hash(tmp_path: Path) -> None:
    from exporters.files import sha256_file

    file = save_model(model(), tmp_path / "m.onnx")
    assert file.data_files == ()
    assert file.sha256 == sha256_file(file.path)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "a/../../secret.bin", "/etc/passwd", "", "C:\\secret", "..\\x"]
)
def test_a_path_out_of_the_folder_is_refused(path: Path, location: str) -> None:
    shutil.copy(path.parent / "weights.bin", path.parent.parent / "secret.bin")
    with_location(path, lambda entry: entry | {"location": location})
    with pytest.raises(UserError, match="is not a path inside the model's folder"):
        _ = ModelFile(path).proto


def test_a_link_out_of_the_folder_is_refused(path: Path) -> None:
    outside = path.parent.parent / "elsewhere.bin"
    (path.parent / "weights.bin").rename(outside)
    (path.parent / "weights.bin").symlink_to(outside)
    with pytest.raises(UserError, match=r"symbolic link, .*weights\.bin\. Copy the file"):
        _ = ModelFile(path).proto


def test_a_linked_folder_is_refused(path: Path) -> None:
    (path.parent.parent / "other").mkdir()
    (path.parent / "weights.bin").rename(path.parent.parent / "other" / "weights.bin")
    (path.parent / "sub").symlink_to(path.parent.parent / "other")
    with_location(path, lambda entry: entry | {"location": "sub/weights.bin"})
    with pytest.raises(UserError, match="symbolic link"):
        _ = ModelFile(path).proto


def test_a_missing_data_file_is_named(path: Path) -> None:
    (path.parent / "weights.bin").unlink()
    with pytest.raises(
        UserError, match=r"'W' should be in .*weights\.bin, which does not exist\. Copy the model"
    ):
        _ = ModelFile(path).proto


def test_a_truncated_data_file_is_named(path: Path) -> None:
    (path.parent / "weights.bin").write_bytes(b"12")
    with pytest.raises(UserError, match=r"bytes 0 to 4096 of .*weights\.bin, which has 2"):
        _ = ModelFile(path).proto


def test_a_negative_offset_is_refused(path: Path) -> None:
    with_location(path, lambda entry: entry | {"offset": "-8"})
    with pytest.raises(UserError, match="should be bytes -8 to"):
        _ = ModelFile(path).proto


def test_data_of_the_wrong_length_is_refused(path: Path) -> None:
    with_location(path, lambda entry: entry | {"length": "12"})
    with pytest.raises(UserError, match=r"has 12 bytes, its shape \[32, 32\] needs 4096"):
        _ = ModelFile(path).proto


def test_a_damaged_entry_is_refused(path: Path) -> None:
    with_location(path, lambda entry: entry | {"offset": "many"})
    with pytest.raises(UserError, match=r"'W' has a damaged entry: .*'many'"):
        _ = ModelFile(path).proto


# ------------------------------------------------------------------ writing


def test_large_models_get_a_data_file(tmp_path: Path) -> None:
    proto = model()
    assert payload_bytes(proto) >= 4096
    file = save_model(proto, tmp_path / "m.onnx", limit_bytes=1000)
    assert file.data_files == (tmp_path / "m.onnx.data",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    entries = [
        {e.key: e.value for e in t.external_data}
        for t in tensors_of(onnx.load(file.path, load_external_data=False))
        if t.data_location == TensorProto.EXTERNAL
    ]
    assert len(entries) == 3  # the weight, and the constant in both branches
    assert {entry["location"] for entry in entries} == {"m.onnx.data"}
    assert all(int(entry["offset"]) % 4096 == 0 for entry in entries)
    session = ort.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    y, z = session.run(None, {"x": np.ones((1, 32), np.float32)})
    np.testing.assert_array_equal(y, np.full((1, 32), 33.0))
    np.testing.assert_array_equal(z, np.full(512, 2.0))


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    files = [save_model(model(), tmp_path / f"{n}" / "m.onnx", limit_bytes=9) for n in "ab"]
    assert files[0].sha256 == files[1].sha256


def test_an_existing_data_file_is_kept(tmp_path: Path) -> None:
    data_path(tmp_path / "m.onnx").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"m\.onnx\.data exists already"):
        save_model(model(), tmp_path / "m.onnx", limit_bytes=9)
    assert data_path(tmp_path / "m.onnx").read_bytes() == b"mine"
    assert not (tmp_path / "m.onnx").exists()


def test_both_files_are_replaced_when_asked(tmp_path: Path) -> None:
    save_model(model(1.0), tmp_path / "m.onnx", limit_bytes=9)
    file = save_model(model(3.0), tmp_path / "m.onnx", limit_bytes=9, overwrite=True)
    array = numpy_helper.to_array(file.proto.graph.initializer[0])
    np.testing.assert_array_equal(array, np.full((32, 32), 3.0, np.float32))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_invalid_large_graph_leaves_nothing(tmp_path: Path) -> None:
    proto = model()
    proto.graph.node[0].input[1] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        save_model(proto, tmp_path / "m.onnx", limit_bytes=9)
    assert list(tmp_path.iterdir()) == []
