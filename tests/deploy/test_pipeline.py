"""A recipe becomes a bundle, stage by stage; what is done stays done."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import yaml

from calibration.samples import open_samples
from deploy import making, measuring, run, workplace
from deploy.bundle import Bundle, partial_path
from deploy.cli import run as command_line
from deploy.recipe import Recipe, load_recipe
from deploy.stages import StageStore
from deploy.workplace import Workplace
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelFile
from exporters.variants import ExportResult
from runtimes import get
from runtimes.ort import cpu

from .conftest import Mini

ENGINES = get("tensorrt").probe().can_build


def recipe_for(mini: Mini, **changes: Any) -> Recipe:
    """A recipe that starts from the exported file, so that a test takes a second."""
    content: dict[str, Any] = {
        "model": {"file": str(mini.fp32)},
        "samples": {"calibration": str(mini.calibration), "evaluation": str(mini.evaluation)},
        "quantization": {"scales": "minmax", "policies": ["onnxruntime"]},
        "benchmark": {"runs": 6, "warmup": 1, "threads": 1},
        "verify": {"scenes": 0, "layers": False, "waterfall": 0},
    }
    return Recipe.model_validate({**content, **changes})


@pytest.fixture(scope="module")
def made(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One bundle with everything in it."""
    recipe = recipe_for(
        mini,
        model={"variant": "flashocc-nano", "seed": 3},
        quantization={"scales": "minmax"},
        engines=[{"from": "int8-tensorrt"}, {"from": "fp16"}],
        verify={"scenes": 1},
        contract={"require": ["agreement>=0.05"]},
    )
    return run(recipe, tmp_path_factory.mktemp("made") / "bundle")


def test_the_bundle_is_whole_and_nothing_else_is_left(made: Bundle) -> None:
    assert made.differences() == []
    assert not partial_path(made.path).exists()
    roles = {path.stem for path in (made.path / "models").iterdir()}
    assert roles == {"fp32", "fp16", "int8-onnxruntime", "int8-tensorrt"}


def test_the_manifest_says_what_made_what(made: Bundle, mini: Mini) -> None:
    manifest = made.manifest
    assert manifest["schema"] == "edgeport.manifest/1"
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    fp32 = sha256_file(made.path / "models" / "fp32.onnx")
    assert stages["export"]["outputs"] == {"models/fp32.onnx": fp32}
    assert stages["quantize"]["inputs"]["model"] == fp32
    assert stages["verify int8-tensorrt"]["inputs"]["reference"] == fp32
    assert all(stage["peak_rss_mib"] > 0 for stage in manifest["stages"])
    inputs = {entry["name"]: entry for entry in manifest["inputs"]}
    assert inputs["calibration"]["source"] == str(mini.calibration)
    assert len(inputs["calibration"]["samples"]) == 4
    assert manifest["environment"]["versions"]["onnxruntime"] == onnxruntime.__version__


def test_the_report_says_that_the_weights_are_random(made: Bundle) -> None:
    report = made.report
    assert report["model"]["weights"] == "random weights, seed 3"
    assert any("Random weights, seed 3" in note for note in report["notes"])
    assert "random weights, seed 3" in made.page.read_text().lower()


def test_the_report_holds_what_was_measured(made: Bundle) -> None:
    report = made.report
    assert report["verdict"]["status"] == "pass"
    files = {file["role"]: file for file in report["model"]["files"]}
    assert files["int8-tensorrt"]["operators"]["QuantizeLinear"] > 20
    assert files["int8-tensorrt"]["size_bytes"] < files["fp32"]["size_bytes"]
    assert [entry["policy"] for entry in report["quantization"]] == ["onnxruntime", "tensorrt"]
    cases = {case["name"]: case for case in report["latency"]["cases"]}
    assert set(cases) == {"fp32", "int8-onnxruntime"}
    assert len(cases["fp32"]["latencies_ms"]) == 6
    assert "needs at least" in cases["fp32"]["percentiles"][-1]["reason"]
    agreement = {entry["candidate"]: entry for entry in report["agreement"]}
    assert agreement["fp16.onnx"]["summary"]["agreement"] > 0.95
    assert agreement["fp16.onnx"]["layers"] is None
    assert len(agreement["int8-onnxruntime.onnx"]["layers"]) > 40


@pytest.mark.skipif(not ENGINES, reason="no TensorRT builder; pip install 'edgeport[tensorrt-rtx]'")
def test_engines_are_built_with_passports(made: Bundle) -> None:
    engines = {engine["name"]: engine for engine in made.report["engines"]}
    assert set(engines) == {"int8-tensorrt tensorrt", "fp16 tensorrt"}
    passport = engines["int8-tensorrt tensorrt"]["passport"]
    engine = made.path / "engines" / "int8-tensorrt.tensorrt.engine"
    assert passport["engine_sha256"] == sha256_file(engine)
    assert passport["model_sha256"] == sha256_file(made.path / "models" / "int8-tensorrt.onnx")


def test_scenes_hold_the_labels_that_each_file_gives(made: Bundle, mini: Mini) -> None:
    (scene,) = made.report["occupancy"]
    assert [image["camera"] for image in scene["images"]] == mini.spec.inputs[0].details["cameras"]
    sample = next(iter(open_samples(mini.evaluation, mini.spec)))
    for grid in scene["grids"]:
        path = made.path / "models" / f"{grid['name']}.onnx"
        session = cpu().load(path)  # Q/DQ of a file for TensorRT are run as they stand
        (labels,) = session.run({"images": sample["images"]}).values()
        drawn = np.frombuffer(zlib.decompress(base64.b64decode(grid["labels"])), np.uint8)
        assert np.array_equal(drawn.reshape(scene["shape"]), labels)


def test_the_same_recipe_again_reuses_every_stage(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate_json((made.path / "recipe.json").read_text())
    copy = tmp_path / "bundle"
    shutil.copytree(made.path, copy)
    before = {path: sha256_file(path) for path in (copy / "models").iterdir()}
    hashed = "samples are not read or rendered again for their hashes"
    monkeypatch.setattr(workplace, "hashes_of", lambda *_: pytest.fail(hashed))
    again = run(recipe, copy, overwrite=True)
    assert all(stage["cached"] for stage in again.report["stages"])
    assert {path: sha256_file(path) for path in (copy / "models").iterdir()} == before
    assert again.differences() == []


def cached(bundle: Bundle) -> dict[str, bool]:
    return {stage["name"]: stage["cached"] for stage in bundle.report["stages"]}


def test_a_changed_recipe_redoes_what_depends_on_the_change(mini: Mini, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    run(recipe_for(mini, quantization={"scales": "minmax"}), output)
    changed = recipe_for(mini, quantization={"scales": "percentile", "policies": ["onnxruntime"]})
    again = run(changed, output, overwrite=True)
    assert cached(again) == {
        "export": True,
        "quantize": False,
        "benchmark": False,
        "verify int8-onnxruntime": False,
        "scenes": False,
        "samples": True,
    }
    assert not (output / "models" / "int8-tensorrt.onnx").exists(), "of the earlier recipe"
    stricter = recipe_for(
        mini,
        quantization={"scales": "percentile", "policies": ["onnxruntime"]},
        contract={"require": ["agreement>=0.999"]},
    )
    last = run(stricter, output, overwrite=True)
    assert all(cached(last).values()), "a contract is judged, nothing is measured again"
    # two samples cannot decide this: no evidence, which is a fail
    assert last.report["verdict"]["status"] == "no evidence"
    notes = [check["note"] for check in last.report["verdict"]["checks"]]
    assert any("which cannot decide 0.999; about" in note for note in notes)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no space in the car")])
def test_it_goes_on_where_it_stopped(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    output = tmp_path / "bundle"

    def stop(*arguments: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "benchmark", stop)
        with pytest.raises(type(error)):
            run(recipe_for(mini), output)
    assert not output.exists()
    done = {path.stem for path in (partial_path(output) / "stages").iterdir()}
    assert done == {"export", "quantize"}
    assert not list(partial_path(output).rglob("*.partial")), "nothing half-written"
    resumed = cached(run(recipe_for(mini), output))
    assert [name for name, reused in resumed.items() if reused] == ["export", "quantize"]


def test_samples_in_both_sets_are_refused_or_confessed(mini: Mini, tmp_path: Path) -> None:
    samples = {"calibration": str(mini.calibration), "evaluation": str(mini.calibration)}
    words = "quantize: 4 of 4 evaluation samples are in the calibration set too: seed-0-0, "
    with pytest.raises(UserError, match=words):
        run(recipe_for(mini, samples=samples, benchmark=None), tmp_path / "bundle")
    recipe = recipe_for(mini, samples={**samples, "i_know": ["overlap"]}, benchmark=None)
    report = run(recipe, tmp_path / "bundle").report
    assert any(note.startswith("4 of 4 evaluation samples were used") for note in report["notes"])
    assert report["latency"] is None


def test_a_missing_builder_is_recorded_and_fails_only_where_it_is_required(
    mini: Mini, tmp_path: Path
) -> None:
    # ONNX Runtime never builds an engine, so it stands for a machine without TensorRT
    wanted = {"from": "fp32", "runtime": "onnxruntime"}
    recipe = recipe_for(mini, benchmark=None, engines=[wanted])
    report = run(recipe, tmp_path / "a").report
    assert report["engines"][0]["passport"] == {}
    assert report["verdict"]["status"] == "pass"
    required = recipe_for(mini, benchmark=None, engines=[{**wanted, "required": True}])
    report = run(required, tmp_path / "b").report
    assert report["verdict"]["status"] == "no evidence"
    assert report["verdict"]["checks"][-1]["name"] == "engine from fp32 for onnxruntime"


def test_an_engine_that_this_machine_can_run_is_timed_and_compared(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a model file that ONNX Runtime can run stands for an engine: a GPU is not everywhere
    engines = {"int8 as engine": mini.int8}
    monkeypatch.setattr(making, "runnable_engines", lambda *_: engines)
    report = run(recipe_for(mini), tmp_path / "bundle").report
    cases = [case["name"] for case in report["latency"]["cases"]]
    assert cases == ["fp32", "int8-onnxruntime", "int8 as engine"]
    assert [entry["name"] for entry in report["agreement"]] == [
        "int8-onnxruntime against fp32",
        "int8 as engine against fp32",
    ]
    assert report["agreement"][1]["layers"] is None


def test_a_speed_up_that_nobody_can_reach_fails(mini: Mini, tmp_path: Path) -> None:
    impossible = {"require": ["speedup>=1000"]}
    recipe = recipe_for(mini, contract=impossible)
    check = run(recipe, tmp_path / "bundle").report["verdict"]["checks"][-1]
    assert check["name"] == "int8-onnxruntime: speed-up"
    assert check["ok"] is False
    few = recipe_for(mini, benchmark={"runs": 2, "warmup": 0}, contract=impossible)
    check = run(few, tmp_path / "few").report["verdict"]["checks"][-1]
    assert (check["ok"], check["note"]) == (None, "too few runs for an interval")


def test_the_command_from_a_file_to_the_report(
    mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(mini, benchmark=None)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(by_alias=True)))
    output = tmp_path / "bundle"
    assert command_line(["run", str(path), "-o", str(output)]) == 0
    captured = capsys.readouterr()
    assert f"report: {output / 'report.html'}" in captured.out
    assert "verdict: pass" in captured.out
    assert "random weights, seed 0" in captured.out
    assert command_line(["run", str(path), "-o", str(output), "--overwrite", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["schema"] == "edgeport.report/2"
    assert captured.err == ""
    assert command_line(["report", str(output), "-o", str(tmp_path / "again.html")]) == 0


def test_an_unmet_term_is_exit_code_one(
    mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(mini, benchmark=None, contract={"require": ["agreement>=1"]})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(by_alias=True)))
    assert command_line(["run", str(path), "-o", str(tmp_path / "bundle")]) == 1
    assert "verdict: fail" in capsys.readouterr().out
    assert (tmp_path / "bundle" / "report.html").is_file()


def test_ctrl_c_in_a_terminal_keeps_what_is_done(mini: Mini, tmp_path: Path) -> None:
    """A terminal sends SIGINT to every process of the group, the benchmark's workers included."""
    recipe = recipe_for(mini, benchmark={"runs": 1_000_000, "warmup": 0})
    path, bundle = tmp_path / "recipe.yaml", tmp_path / "bundle"
    path.write_text(yaml.safe_dump(recipe.model_dump(by_alias=True)))
    code = "import sys; from deploy.cli import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, "run", str(path), "-o", str(bundle)],
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        workers = wait_for_workers(process, partial_path(bundle) / "stages" / "quantize.json")
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 finished stages are kept in" in error
    assert "interrupted; no half-written file was left" in error
    assert "Traceback" not in error
    assert not bundle.exists()
    assert not psutil.wait_procs(workers, timeout=10)[1], "workers outlived the run"


def wait_for_workers(process: subprocess.Popen[str], record: Path) -> list[psutil.Process]:
    """The run's child processes, once it has begun to time the files."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children()
        if record.is_file() and len(children) == 2:
            time.sleep(0.5)  # the signal must come while they run, not while they start
            return children
        time.sleep(0.05)
    pytest.fail(f"no benchmark began; the run ended with {process.poll()}")


def test_an_exporter_is_asked_for_what_the_recipe_says_and_no_more(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks that take points have no cameras, and so no form of their pictures."""
    asked: list[dict[str, Any]] = []

    def export(*_: Any, **options: Any) -> ExportResult:
        asked.append(options)
        return ExportResult(ModelFile(mini.fp32), {})

    monkeypatch.setattr(making, "export_variant", export)
    for model in ({}, {"input": "float", "seed": 3, "options": {"boxes": 9}}):
        recipe = Recipe.model_validate(
            {
                "model": {"variant": "pillarhist-mini", **model},
                **dict.fromkeys(("quantization", "benchmark", "verify")),
            }
        )
        making.export_to(Workplace(recipe, tmp_path, StageStore(tmp_path)), tmp_path / "m.onnx")
    common = {"progress": None, "overwrite": True}
    assert asked == [common, {**common, "input": "float", "seed": 3, "boxes": 9}]


def test_the_demo_recipe_is_read() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "examples" / "demo.yaml")
    assert recipe.model.variant == "flashocc-mini"
    assert {engine.source for engine in recipe.engines} >= {"int8-tensorrt", "fp16"}


def test_what_is_wrong_with_the_samples_stops_a_run_unless_known(
    mini: Mini, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    noise = tmp_path / "noise"
    noise.mkdir()
    shape = tuple(int(size) for size in mini.spec.inputs[0].shape)
    for index in range(2):
        images = random.integers(0, 256, shape, dtype=np.uint8)
        np.savez(noise / f"frame-{index}.npz", images=images)
    samples = {"calibration": str(noise), "evaluation": str(mini.evaluation)}
    with pytest.raises(UserError, match=r"quantize: images: 12 of 12 images are white noise"):
        run(recipe_for(mini, samples=samples, benchmark=None), tmp_path / "bundle")
    known = recipe_for(mini, samples={**samples, "i_know": ["random-data"]}, benchmark=None)
    bundle = run(known, tmp_path / "bundle")
    told = bundle.report["samples"]
    assert told["overridden"] == ["random-data"]
    assert {f["code"]: f["severity"] for f in told["findings"]} == {
        "random-data": "error",
        "few": "note",
        "drift-untested": "note",
    }
    sets = {entry["role"]: entry for entry in told["sets"]}
    assert (sets["calibration"]["source"], sets["calibration"]["samples"]) == ("noise", 2)
    assert sets["evaluation"]["sha256"] == open_samples(mini.evaluation).sha256
    assert "error, overridden" in (bundle.path / "report.html").read_text()
    with pytest.raises(UserError, match="unknown finding 'radom-data'"):
        load_recipe(saved(tmp_path, samples={**samples, "i_know": ["radom-data"]}))


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"model": {"variant": "flashocc-nano"}, **changes}))
    return path
