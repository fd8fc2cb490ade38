from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporters.errors import UserError
from exporters.files import sha256_bytes
from exporters.modelfile import (
    InputSpec,
    ModelFile,
    ModelSpec,
    OutputSpec,
    WeightsSource,
    save_model,
)
from runtimes.base import Evidence, Passport, TensorInfo
from runtimes.passport import (
    dump,
    model_summary,
    passport_path,
    read_passport,
    require_same_runtime,
)
from tests.runtimes import models

CONTENT = b"an engine"
PASSPORT = Passport(
    runtime="tensorrt-rtx",
    runtime_version="1.7.1.116",
    evidence=Evidence.BUILT,
    compute_capabilities=("8.9",),
    model_sha256="0" * 64,
    engine_sha256=sha256_bytes(CONTENT),
    size_bytes=len(CONTENT),
    build_s=1.5,
    target="rtx-ada/trt-rtx1.7",
    model={"variant": "flashocc-m0"},
    log={"weights_bytes": 100},
    inputs=(TensorInfo("x", "float32", (1, "n")),),
    outputs=(TensorInfo("y", "uint8", (3,)),),
)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    path.write_bytes(CONTENT)
    passport_path(path).write_text(dump(PASSPORT))
    return path


def test_a_passport_comes_back_as_it_went(engine: Path) -> None:
    assert passport_path(engine).name == "m.engine.passport.json"
    assert read_passport(engine) == PASSPORT
    assert json.loads(passport_path(engine).read_text())["schema"] == "edgeport.passport/1"


def test_an_engine_without_a_passport_is_unknown(engine: Path) -> None:
    passport_path(engine).unlink()
    with pytest.raises(UserError, match=r"m\.engine has no passport \(m\.engine\.passport\.json\)"):
        read_passport(engine)


def test_a_passport_of_another_file_is_refused(engine: Path) -> None:
    engine.write_bytes(b"another engine")
    with pytest.raises(
        UserError, match="not the engine of its passport: its SHA-256 begins"
    ) as error:
        read_passport(engine)
    assert PASSPORT.engine_sha256[:12] in str(error.value)
    assert "edgeport build" in error.value.fix


def test_a_missing_engine_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no engine at"):
        read_passport(tmp_path / "m.engine")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": "edgeport.passport/9"}',
        dump(PASSPORT).replace('"evidence"', '"evidenz"'),
        dump(PASSPORT).replace('"built"', '"guessed"'),
        dump(PASSPORT).replace('"build_s"', '"build_seconds"'),
    ],
)
def test_a_damaged_passport_is_refused(engine: Path, text: str) -> None:
    passport_path(engine).write_text(text)
    with pytest.raises(UserError, match=r"m\.engine\.passport\.json is not a passport"):
        read_passport(engine)


def test_another_version_is_a_sentence_and_another_build_number_is_not() -> None:
    path = Path("m.engine")
    require_same_runtime(path, PASSPORT, "tensorrt-rtx", "1.7.1.120")
    with pytest.raises(UserError) as error:
        require_same_runtime(path, PASSPORT, "tensorrt-rtx", "1.8.0.3")
    assert "m.engine was built by tensorrt-rtx 1.7.1.116; version 1.8.0.3 here" in str(error.value)
    with pytest.raises(UserError) as error:
        require_same_runtime(path, PASSPORT, "tensorrt-10", "10.3.0")
    assert "was built by tensorrt-rtx 1.7.1.116, here is tensorrt-10 10.3.0" in str(error.value)


def test_the_summary_of_a_model_is_its_self_description(tmp_path: Path) -> None:
    spec = ModelSpec(
        variant="tiny-conv",
        family="tiny",
        task="occupancy",
        inputs=(InputSpec("x", "float32", (1, 8, 16, 16)),),
        outputs=(OutputSpec("y", "float32", (1, 8, 16, 16)),),
        weights=WeightsSource("random", seed=0),
        quantization={"method": "minmax"},
    )
    described = save_model(models.conv(), tmp_path / "m.onnx", spec=spec)
    assert model_summary(described) == {
        "file": "m.onnx",
        "variant": "tiny-conv",
        "family": "tiny",
        "task": "occupancy",
        "weights": "random weights, seed 0",
        "quantization": '{"method": "minmax"}',
    }
    bare = ModelFile(models.save(models.conv(), tmp_path / "bare.onnx"))
    assert model_summary(bare) == {"file": "bare.onnx"}
