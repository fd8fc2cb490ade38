"""docs/recipes.md works as it stands: its keys are those of the schema, its commands are typed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.cli import run
from deploy.recipe import Recipe, load_recipe

from .conftest import Mini

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"
LEFT = {"benchmark", "verify", "quantization", "contract", "samples", "model", "engines", "boards"}


def keys(schema: dict[str, Any], part: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """``model.variant``, ``engines[].from``, …: every key of the schema that is no part itself."""
    for name, value in part.get("properties", {}).items():
        inner = [value, *value.get("anyOf", ())]
        inner += [value["items"]] if value.get("type") == "array" and "items" in value else []
        named = [one["$ref"].rpartition("/")[2] for one in inner if "$ref" in one]
        listed = "[]" if value.get("type") == "array" and named else ""
        if named:
            yield from keys(schema, schema["$defs"][named[0]], f"{prefix}{name}{listed}.")
        else:
            yield prefix + name


def test_every_key_is_told() -> None:
    schema = json.loads((ROOT / "docs" / "recipe.schema.json").read_text())
    told = set(re.findall(r"^\| `([\w.\[\]]+)` \|", PAGE.read_text(), re.MULTILINE))
    assert told == set(keys(schema, schema))


def test_every_recipe_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        (tmp_path / "recipe.yaml").write_text(text)
        assert isinstance(load_recipe(tmp_path / "recipe.yaml"), Recipe)


def shrunk(path: Path) -> str:
    """An example with few samples and the network that is made for tests; the rest as it stands."""
    recipe = yaml.safe_load(path.read_text())
    recipe["model"] = {"variant": "flashocc-nano"}
    recipe["samples"] = {"calibration": "synthetic:4:1", "evaluation": "synthetic:2:1000"}
    recipe["quantization"] |= {"scales": "minmax"}
    recipe["verify"] |= {"metric": "miou", "waterfall": 1, "scenes": 1}
    recipe["contract"] = {"require": ["agreement>=0.01"]}
    if recipe.get("benchmark"):
        recipe["benchmark"] = {"runs": 6, "warmup": 1}
    return yaml.safe_dump(recipe)


@pytest.mark.slow
def test_every_command_and_the_program_work(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text()
    lines = re.findall(r"^    (edgeport [^#\n]*)", text, re.MULTILINE)
    lines += re.findall(r"`(edgeport schema [^`]*)`", text)
    assert [line.split()[1] for line in lines] == ["run", "run", "quantize", "schema"]
    (tmp_path / "examples").mkdir()
    for name in ("demo", "panoptic"):
        example = ROOT / "examples" / f"{name}.yaml"
        (tmp_path / "examples" / example.name).write_text(shrunk(example))
    shutil.copy(mini.fp32, tmp_path / "m0.onnx")
    shutil.copytree(mini.calibration, tmp_path / "calibration")
    monkeypatch.chdir(tmp_path)
    said = {}
    for line in lines:
        capsys.readouterr()
        assert run(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
        said[line] = capsys.readouterr().out
    printed = yaml.safe_load(next(out for line, out in said.items() if "--print-recipe" in line))
    assert printed["samples"]["calibration"] == "calibration/"
    schema = json.loads((tmp_path / "recipe.schema.json").read_text())
    assert schema == json.loads((ROOT / "docs" / "recipe.schema.json").read_text())
    listed = text.split("## What a run leaves")[1].split("Exit code")[0]
    for name in re.findall(r"^      (\S+)", listed, re.MULTILINE):
        if name != "rungs/":  # only where something was split
            assert (tmp_path / "demo-bundle" / name).exists(), name
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert program is not None
    exec(compile(program[1], str(PAGE), "exec"), {})
    assert capsys.readouterr().out.split() == ["pass", "[]"]
