"""A recipe with a budget: its file, its record, its verdict, and refusals before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from calibration.samples import write_samples
from deploy import run
from deploy.cli import run as command_line
from deploy.recipe import Recipe, load_recipe
from exporters.errors import UserError
from exporters.modelfile import ModelFile

from .conftest import Mini, blocky_images


@pytest.fixture
def recipe(mini: Mini, tmp_path: Path) -> dict[str, Any]:
    write_samples(blocky_images(3, 2, mini.spec), tmp_path / "validation")
    return {
        "model": {"file": str(mini.fp32)},
        "samples": {
            "calibration": str(mini.calibration),
            "evaluation": str(mini.evaluation),
            "validation": str(tmp_path / "validation"),
        },
        "quantization": {
            "scales": "minmax",
            "policies": ["onnxruntime"],
            "budget": "agreement>=0.05",
        },
        "benchmark": None,
        "verify": {"scenes": 0, "layers": False},
    }


def test_the_bundle_has_the_search_and_its_check(recipe: dict[str, Any], tmp_path: Path) -> None:
    bundle = run(Recipe.model_validate(recipe), tmp_path / "bundle")
    folder = tmp_path / "bundle" / "models"
    assert json.loads((folder / "int8-onnxruntime.budget.json").read_text())["holds"] is True
    record = ModelFile(folder / "int8-onnxruntime.onnx").require_spec().quantization
    assert record is not None
    assert record["budget"]["budget"] == "agreement>=0.05"
    checks = {check["name"]: check for check in bundle.report["verdict"]["checks"]}
    assert checks["int8-onnxruntime: agreement on the validation set"]["ok"] is True
    roles = [entry["role"] for entry in bundle.report["samples"]["sets"]]
    assert roles == ["calibration", "validation", "evaluation"]
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    assert bundle.differences() == []


def test_a_budget_that_is_not_held_fails_the_bundle(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["quantization"]["budget"] = "agreement>=2"
    bundle = run(Recipe.model_validate(recipe), tmp_path / "bundle")
    assert bundle.report["verdict"]["status"] == "fail"


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        (("quantization", "budget"), "agreement=1", "expected '>=' or '<='"),
        (("quantization", "budget"), None, "belong together"),
        (("samples", "validation"), None, "belong together"),
        (("quantization", "budgt"), "m>=1", "did you mean 'budget'"),
    ],
)
def test_mistakes_are_found_before_any_work(
    recipe: dict[str, Any], tmp_path: Path, part: tuple[str, str], value: Any, words: str
) -> None:
    recipe[part[0]][part[1]] = value
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert words in str(caught.value)
    assert command_line(["run", str(path), "-o", str(tmp_path / "b")]) == 2
    assert not (tmp_path / "b").exists()


def test_paths_are_relative_to_the_recipe(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["samples"]["validation"] = "validation"
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert load_recipe(path).samples.validation == str(tmp_path / "validation")
