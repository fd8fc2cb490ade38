"""kill -9 at every stage: what was done stays done, and the bundle is the same in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import Bundle, run
from deploy.bundle import partial_path
from deploy.recipe import Recipe
from exporters.files import sha256_file

from .conftest import Mini
from .test_pipeline import cached, recipe_for

ROOT = Path(__file__).parents[2]
PLACES = (
    "export",
    "quantize",
    "benchmark",
    "writing verify-int8-onnxruntime.json",
    "verify int8-onnxruntime",
    "report",
    "swap",
    "swapped",
)


def killed(place: str, recipe: Path, output: Path) -> None:
    """Run until ``place``, where the process is killed by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.deploy.killing", place, "run", str(recipe), "-o", str(output)]
        + (["--overwrite"] if output.exists() else []),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL, (place, done.stderr)


def recorded(output: Path) -> set[str]:
    return {path.stem for path in (partial_path(output) / "stages").glob("*.json")}


def models(bundle: Bundle) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (bundle.path / "models").iterdir()}


@pytest.fixture
def asked(mini: Mini, tmp_path: Path) -> tuple[Recipe, Path]:
    recipe = recipe_for(mini, benchmark={"runs": 6, "warmup": 0, "threads": 1})
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(by_alias=True)))
    return recipe, path


@pytest.mark.slow
def test_a_run_that_is_killed_everywhere_ends_like_one_that_is_not(
    asked: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, path = asked
    output = tmp_path / "bundle"
    before: set[str] = set()
    for place in PLACES:
        killed(place, path, output)
        assert not output.exists(), f"{place}: nothing half-made has the bundle's name"
        now = recorded(output)
        assert before <= now, f"{place}: what was done is lost"
        before = now
    stages = {"export", "quantize", "benchmark", "verify-int8-onnxruntime", "scenes", "samples"}
    assert before == stages
    resumed = run(recipe, output)
    assert all(cached(resumed).values()), "everything had been done"
    assert resumed.differences() == []
    assert not list(output.rglob(".*")), "nothing half-written is left"
    assert models(resumed) == models(run(recipe, tmp_path / "undisturbed"))


@pytest.mark.slow
def test_a_bundle_that_is_replaced_is_never_lost(
    asked: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, path = asked
    output = tmp_path / "bundle"
    first = models(run(recipe, output))
    killed("swap", path, output)
    assert Bundle.open(output).differences() == [], "the old one is still there"
    killed("swapped", path, output)
    assert not output.exists()
    again = run(recipe, output)
    assert all(cached(again).values())
    assert models(again) == first
    assert [p.name for p in tmp_path.iterdir() if "bundle" in p.name] == ["bundle"]
    assert json.loads((output / "manifest.json").read_text())["verdict"] == "pass"
