"""The schema of recipes is current, accepts what edgeport reads and refuses what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import load_recipe
from deploy.cli import run
from deploy.recipe_schema import recipe_schema

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "recipe.schema.json"


def test_the_committed_schema_is_current() -> None:
    assert json.loads(COMMITTED.read_text()) == recipe_schema(), (
        "write it again: edgeport schema -o docs/recipe.schema.json --overwrite"
    )


def test_the_command_writes_and_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert run(["schema", "-o", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == printed == recipe_schema()
    assert run(["schema", "-o", str(tmp_path / "s.json")]) == 2


@pytest.mark.oracle
@pytest.mark.parametrize("example", ["demo", "panoptic"])
def test_it_is_a_schema_that_the_examples_follow(example: str) -> None:
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    path = ROOT / "examples" / f"{example}.yaml"
    text = path.read_text()
    jsonschema.validate(yaml.safe_load(text), schema)
    load_recipe(path)
    assert "# yaml-language-server: $schema=../docs/recipe.schema.json" in text


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantisation": {}}, "'quantisation' was unexpected"),
        ({"quantization": {"scales": "entrop"}}, "entrop"),
        ({"benchmark": {"runs": 0}}, "0"),
        ({"contract": {"preset": "mlperf-98"}}, "mlperf-98"),
        ({"model": {"variant": "flashocc-m9"}}, "flashocc-m9"),
    ],
)
def test_what_edgeport_refuses_an_editor_underlines(change: dict[str, Any], words: str) -> None:
    recipe = {"model": {"variant": "flashocc-m0"}, "samples": {"calibration": "synthetic:4"}}
    jsonschema.validate(recipe, recipe_schema())
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({**recipe, **change}, recipe_schema())
    assert words in refused.value.message


def test_every_key_is_explained() -> None:
    silent = [key for key, entry in keys(recipe_schema()) if not entry.get("description")]
    assert silent == []


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in {"": schema, **schema["$defs"]}.items():
        for key, entry in part["properties"].items():
            yield f"{name}.{key}", entry
