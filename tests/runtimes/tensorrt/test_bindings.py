"""Every API name that a dialect uses, looked up in NVIDIA's Python bindings of four versions.

The bindings cannot be imported without NVIDIA's libraries, but a pybind11 module holds each name
that it exports as a C string. So a name that is not there does not exist in that version, and that
one exists is weak evidence that it works: it is called *name-checked*, no more.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from runtimes import targets
from runtimes.base import Evidence
from runtimes.tensorrt.dialects import Dialect, TensorRT10, TensorRT11, TensorRTRTX

VARIABLE = "TENSORRT_BINDINGS"

WHEELS: dict[str, type[Dialect]] = {
    "10.3": TensorRT10,
    "10.13": TensorRT10,
    "10.16": TensorRT10,
    "11.4": TensorRT11,
}

REMOVED_IN_11 = (
    "EXPLICIT_BATCH",
    "IInt8EntropyCalibrator2",
    "OBEY_PRECISION_CONSTRAINTS",
    "device_memory_size",
    "platform_has_fast_int8",
    "set_dynamic_range",
)


class Bindings:
    """The names that one wheel can know."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        self._compiled = b"".join(data for name, data in members.items() if name.endswith(".so"))
        self._python = b"".join(data for name, data in members.items() if name.endswith(".py"))
        assert self._compiled, f"{wheel.name} has no compiled module"

    def __contains__(self, name: str) -> bool:
        # linkers store "desc" as the end of "local_function_desc", so only the end is compared
        return name.encode() + b"\0" in self._compiled or f"def {name}(".encode() in self._python


@pytest.fixture(scope="module", params=WHEELS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bindings(version: str) -> Bindings:
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder with NVIDIA's binding wheels; make test has them")
    return Bindings(next(Path(folder).glob(f"tensorrt_cu*_bindings-{version}.*.whl")))


def test_every_name_of_the_dialect_exists(version: str, bindings: Bindings) -> None:
    parts = {part for name in WHEELS[version].NAMES for part in name.split(".")}
    assert [part for part in sorted(parts) if part not in bindings] == []


def test_the_check_can_fail(bindings: Bindings) -> None:
    assert "build_serialized_networkk" not in bindings
    rtx_only = set(TensorRTRTX.NAMES) - set(TensorRT11.NAMES)
    assert rtx_only
    assert not any(name.rpartition(".")[2] in bindings for name in rtx_only)


def test_what_was_removed_is_gone_and_not_used(version: str, bindings: Bindings) -> None:
    present = [name for name in REMOVED_IN_11 if name in bindings]
    if version.startswith("10."):
        assert present == list(REMOVED_IN_11), "so the list can tell 10 from 11"
    else:
        assert present == []
        used = {part for name in TensorRT11.NAMES for part in name.split(".")}
        assert used.isdisjoint(REMOVED_IN_11)


def test_the_target_table_claims_no_more() -> None:
    stacks = targets.load().stacks.values()
    claimed = {s.version for s in stacks if s.adapter is Evidence.NAME_CHECKED}
    assert claimed == set(WHEELS)
