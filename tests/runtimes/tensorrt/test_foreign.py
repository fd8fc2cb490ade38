from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporters.errors import UserError
from exporters.files import sha256_file
from runtimes.base import Evidence, Passport
from runtimes.passport import require_same_gpu
from runtimes.tensorrt.foreign import read_foreign, refuse_foreign


def engine(path: Path, *version: int) -> Path:
    """A file with three version bytes where NVIDIA said they are, and nothing of a real plan."""
    path.write_bytes(bytes(24) + bytes(version) + bytes(100))
    return path


@pytest.mark.parametrize(("version", "text"), [((8, 6, 1), "8.6.1"), ((10, 3, 0), "10.3.0")])
def test_the_documented_version_is_read(
    tmp_path: Path, version: tuple[int, ...], text: str
) -> None:
    path = engine(tmp_path / "m.plan", *version)
    found = read_foreign(path)
    assert found.tensorrt == text
    assert found.built_by == f"TensorRT {text}"
    assert found.gpu == ""
    assert found.sha256 == sha256_file(path)
    assert found.evidence is Evidence.WRITTEN


@pytest.mark.parametrize("version", [(11, 4, 0), (1, 7, 1), (0, 0, 0), (255, 1, 2)])
def test_what_is_not_documented_is_unknown(tmp_path: Path, version: tuple[int, ...]) -> None:
    found = read_foreign(engine(tmp_path / "m.plan", *version))
    assert found.tensorrt == ""
    assert found.built_by == "an unknown version of TensorRT"


def test_a_file_that_is_too_short_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "m.plan"
    path.write_bytes(b"short")
    assert read_foreign(path).tensorrt == ""


def test_running_one_is_refused_with_both_versions(tmp_path: Path) -> None:
    error = refuse_foreign(engine(tmp_path / "m.engine", 8, 6, 1), "TensorRT 10.3.0")
    assert "was built by TensorRT 8.6.1, for an unknown GPU, and here is TensorRT 10.3.0" in str(
        error
    )
    assert error.fix.startswith("Build it here from its model file: edgeport build")


def test_an_engine_for_another_gpu_is_refused() -> None:
    papers = Passport("tensorrt-rtx", "1.7.1", Evidence.BUILT, ("8.9",), "0", "0", 1, 1.0)
    require_same_gpu(Path("m.engine"), papers, "8.9")
    require_same_gpu(Path("m.engine"), papers, "")
    require_same_gpu(Path("m.engine"), replace(papers, compute_capabilities=()), "12.0")
    with pytest.raises(UserError, match=r"capability 8\.9; the GPU here has 8\.6") as error:
        require_same_gpu(Path("m.engine"), papers, "8.6")
    assert "--compute-capability 8.6" in error.value.fix
