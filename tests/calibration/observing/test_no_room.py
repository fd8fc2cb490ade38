"""A temporary folder without room: what is said, and what is left of it.

``RLIMIT_FSIZE`` makes the kernel refuse writes beyond a size, as a full disk would.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.observing.observers import observe
from calibration.observing.sessions import SMALL_WEIGHT_BYTES
from calibration.samples.base import InMemorySamples
from calibration.samples.kept import KeptArrays
from exporters.errors import MissingRequirementError
from tests.calibration import nets

ROOM_BYTES = 1 << 20


@contextmanager
def little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_weights_that_find_no_room_are_not_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = 1 + int((SMALL_WEIGHT_BYTES / 4) ** 0.5)
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, width]) for n in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="m")]
    graph = helper.make_graph(nodes, "wide", ends[:1], ends[1:], [weight])
    model = nets.saved(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]),
        tmp_path / "wide.onnx",
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    samples = InMemorySamples([{"x": np.linspace(-1, 1, width, dtype=np.float32)[None]}])
    with little_room(), pytest.raises(MissingRequirementError) as caught:
        observe(model, samples, ["y"], i_know=("all",))
    assert str(caught.value) == (
        f"cannot write 16 MiB of weights below {scratch}: File too large. "
        "Free the space, or set TMPDIR to a folder that has it"
    )
    assert not list(scratch.iterdir())


def test_arrays_that_find_no_room_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = KeptArrays()
    kept.put(0, {"a": np.arange(5)})
    with little_room():
        kept.put(1, {"a": np.zeros(ROOM_BYTES)})
    assert kept.get(1) is None
    found = kept.get(0)
    assert found is not None
    np.testing.assert_array_equal(found["a"], np.arange(5))
    assert [file.name for file in tmp_path.rglob("*.npz")] == ["0.npz"]
