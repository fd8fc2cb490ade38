"""The three dialects: how one is chosen, and that every API name it uses is declared."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from exporters.errors import MissingRequirementError, UserError
from runtimes.tensorrt import configuring, dialects, session, worker
from runtimes.tensorrt.dialects import DIALECTS, TensorRT10, TensorRT11, TensorRTRTX, dialect_for
from runtimes.tensorrt.worker import NestedProgress

# Attributes of our own objects and of Python's in those two files; all others are TensorRT's.
_OURS = {
    *("_copy_in", "_copy_out", "_wait_if_heard"),
    *("module", "name", "NAMES", "known_capabilities", "set_compute_capabilities", "set_workspace"),
    *("_dialect", "_logger", "_emit", "_forward", "_phases", "_best", "_fraction", "_sent_s"),
    *(
        "_compute_capability",
        "handle",
        "log",
        "start",
        "step",
        "finish",
        "percent",
        "open",
        "write",
    ),
    *("get", "pop", "items", "join", "append", "values", "startswith", "monotonic"),
    *("import_module", "__init__", "__name__", "__version__"),
    *(
        "_cuda",
        "_trt",
        "_runtime",
        "_engine",
        "_context",
        "_stream",
        "_host",
        "_device",
        "_tensors",
    ),
    *("runtime", "inputs", "outputs", "execute", "malloc", "free", "create_stream", "synchronize"),
    *("destroy_stream", "to_device", "to_host", "dtype", "shape", "nbytes", "empty", "copy"),
    *("ascontiguousarray", "ctypes", "data", "read_bytes", "write_bytes", "is_file"),
    *("_dynamic", "_set_shape", "_largest_arrays"),
    *("times_ms", "run", "setdefault"),
}


def fake(name: str, version: str, flags: tuple[str, ...], **members: object) -> SimpleNamespace:
    """The enum members by which a dialect is chosen; nothing else of TensorRT is imitated."""
    flag = SimpleNamespace(**{member: index for index, member in enumerate(flags)})
    return SimpleNamespace(
        __name__=name, __version__=version, NetworkDefinitionCreationFlag=flag, **members
    )


def test_a_dialect_is_chosen_by_what_exists() -> None:
    ten = fake("tensorrt", "10.3.0", ("EXPLICIT_BATCH", "STRONGLY_TYPED"))
    eleven = fake("tensorrt", "11.1.0", ("STRONGLY_TYPED",))
    assert isinstance(dialect_for(ten), TensorRT10)
    assert isinstance(dialect_for(eleven), TensorRT11)
    eight = fake("tensorrt", "8.6.1", ("EXPLICIT_BATCH",))
    with pytest.raises(
        MissingRequirementError, match=r"TensorRT 8\.6\.1 has no strongly typed"
    ) as error:
        dialect_for(eight)
    assert "JetPack 6.1" in error.value.fix


def test_ten_asks_for_strong_typing_by_name() -> None:
    asked: list[int] = []
    builder = SimpleNamespace(create_network=asked.append)
    ten = fake("tensorrt", "10.3.0", ("EXPLICIT_BATCH", "STRONGLY_TYPED"))
    dialect_for(ten).create_network(builder)
    dialect_for(fake("tensorrt", "11.1.0", ())).create_network(builder)
    assert asked == [1 << 1, 0]


def test_tensorrt_proper_builds_for_the_gpu_it_runs_on() -> None:
    dialect = dialect_for(fake("tensorrt", "11.1.0", ()))
    dialect.set_compute_capabilities(None, ())
    with pytest.raises(UserError, match="builds for the GPU of this machine only"):
        dialect.set_compute_capabilities(None, ("8.9",))


def test_the_installed_library_is_rtx_and_has_every_declared_name() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")
    dialect = dialect_for(module)
    assert isinstance(dialect, TensorRTRTX)
    for name in TensorRTRTX.NAMES:
        owner, _, member = name.partition(".")
        assert hasattr(module, owner), name
        assert not member or hasattr(getattr(module, owner), member), name
    assert list(dialect.known_capabilities()) == ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]


def test_the_api_that_is_used_is_the_api_that_is_declared() -> None:
    """Every attribute in the files that touch TensorRT is ours or stands in NAMES."""
    names = {name for dialect in DIALECTS for name in dialect.NAMES}
    declared = {part for name in names for part in name.split(".")}
    used: set[str] = set()
    for file in (dialects, configuring, worker, session):
        tree = ast.parse(Path(str(file.__file__)).read_text())
        used |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert used - _OURS <= declared, used - _OURS - declared
    overridden = {"phase_start", "step_complete", "phase_finish", "report_layer_time"}
    unused = {name for name in names if name.rsplit(".")[-1] not in used | overridden}
    assert not unused, "declared and never used"


def test_a_missing_library_names_each_attempt() -> None:
    with pytest.raises(MissingRequirementError) as error:
        worker.import_backend(["no_trt_a", "no_trt_b"])
    assert "no_trt_a: No module named 'no_trt_a'; no_trt_b:" in str(error.value)
    assert worker.import_backend(["no_trt_a", "json"]) is sys.modules["json"]


def test_nested_phases_make_one_rising_percentage() -> None:
    progress = NestedProgress()
    assert progress.percent() == 0
    progress.start("build", None, 4)
    progress.step("build", 0)
    assert progress.percent() == 25
    progress.start("optimize", "build", 10)
    progress.step("optimize", 4)
    assert progress.percent() == 37  # (1 + 5/10) / 4
    progress.finish("optimize")
    assert progress.percent() == 37, "it never falls"
    progress.step("build", 3)
    progress.finish("build")
    assert progress.percent() >= 37
