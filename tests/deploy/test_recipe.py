"""A recipe is read strictly: every mistake is named with its place, its line and the next word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from deploy.recipe import Recipe, load_recipe
from exporters.errors import UserError

MINIMAL = """\
    model: {variant: flashocc-nano}
    samples: {calibration: "synthetic:4", evaluation: "synthetic:2:100"}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(dedent(text))
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as raised:
        load_recipe(write(folder, text))
    return str(raised.value)


def test_a_minimal_recipe_has_every_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.roles == ["fp32", "int8-onnxruntime", "int8-tensorrt"]
    assert recipe.timed_roles == ["fp32", "int8-onnxruntime"]
    assert recipe.verify.layers
    assert recipe.engines == []


def test_fp16_is_made_only_where_something_asks_for_it(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL + "    engines: [{from: fp16}]\n"))
    assert recipe.roles == ["fp32", "fp16", "int8-onnxruntime", "int8-tensorrt"]
    assert recipe.engines[0].runtime == "tensorrt"


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_word(tmp_path: Path) -> None:
    message = refusal(tmp_path, MINIMAL + "    quantization:\n      scale: mse\n")
    assert "quantization.scale (line 4) is unknown (did you mean 'scales'?)" in message
    assert message.startswith(str(tmp_path / "recipe.yaml"))
    message = refusal(tmp_path, MINIMAL + "    engines:\n    - {from: fp32, runtme: tensorrt}\n")
    assert "engines[0].runtme (line 4) is unknown (did you mean 'runtime'?)" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            MINIMAL + "    benchmark: {runs: many}\n",
            "benchmark.runs (line 3) is 'many'; input should be a valid integer",
        ),
        (
            MINIMAL + "    benchmark: {runs: 0}\n",
            "benchmark.runs (line 3) is 0; input should be greater than or equal to 1",
        ),
        (
            "model: {variant: flashocc-nano}\n",
            "samples.calibration is missing, which quantization needs",
        ),
        (
            'model: {seed: 1}\nsamples: {calibration: "synthetic:4", evaluation: "synthetic:2"}\n',
            "model (line 1): give either variant or file",
        ),
        (
            MINIMAL + "    contract: {require: [agreement>=98 %]}\n",
            "contract.require (line 3): term 'agreement>=98 %' at '%': expected its end",
        ),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL.replace("-nano", "-minni"), "unknown variant 'flashocc-minni'. Did you mean"),
        (
            MINIMAL + "    quantization: {policies: [tensort]}\n",
            "line 3: unknown policy 'tensort'. Did you mean 'tensorrt'?",
        ),
        (MINIMAL + "    quantization: {scales: entrop}\n", "Did you mean 'entropy'?"),
        (
            MINIMAL + "    engines: [{from: int8}]\n",
            "line 3: unknown file 'int8'. Known: fp16, fp32, int8-onnxruntime, ",
        ),
        (MINIMAL + "    engines: [{from: fp32, runtime: tensorflow}]\n", "unknown runtime"),
        (MINIMAL + "    engines: [{from: fp32, target: jetson-orin}]\n", "jetson-orin"),
        (MINIMAL + "    benchmark: {files: [fp32, int4]}\n", "unknown file 'int4'"),
    ],
)
def test_names_that_do_not_exist_are_refused_before_any_work(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds nothing"),
        ("- a\n- b\n", "holds no mapping of keys to values"),
        ("model: {variant: [}\n", "is not YAML"),
        ("model: {}\nmodel: {}\n", "model is given twice, on lines 1 and 2"),
    ],
)
def test_what_is_no_recipe_at_all_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent.yaml: No such file"):
        load_recipe(tmp_path / "absent.yaml")
    binary = tmp_path / "m.onnx"
    binary.write_bytes(b"\xff\xfe\x00\x08")
    with pytest.raises(UserError, match="is not text"):
        load_recipe(binary)


def test_paths_are_relative_to_the_recipe_and_take_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path / "data"))
    text = """\
        model: {variant: flashocc-m0, checkpoint: weights/m0.pth, rig: input}
        samples: {calibration: $MY_DATA/nuscenes, evaluation: "synthetic:2"}
    """
    recipe = load_recipe(write(tmp_path, text))
    assert recipe.model.checkpoint == str(tmp_path / "weights" / "m0.pth")
    assert recipe.model.rig == "input"
    assert recipe.samples.calibration == str(tmp_path / "data" / "nuscenes")
    assert recipe.samples.evaluation == "synthetic:2"


def test_a_variable_that_is_not_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_DATA", raising=False)
    message = refusal(tmp_path, MINIMAL.replace("synthetic:4", "$MY_DATA/x"))
    assert "names the variable MY_DATA, which is not set. export MY_DATA=" in message


def test_a_recipe_survives_json(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL + "    engines: [{from: fp16}]\n"))
    assert Recipe.model_validate_json(recipe.model_dump_json(by_alias=True)) == recipe


def recipe_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that a recipe may have, as the documentation writes it."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        inner = model_of(field.annotation)
        if inner is None:
            yield key
        else:
            yield from recipe_keys(
                inner, f"{key}{'[]' if 'list' in str(field.annotation) else ''}."
            )


def model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := model_of(a)) is not None), None)


def test_the_documentation_has_every_key_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    documented = re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", text, flags=re.MULTILINE)
    assert documented == list(recipe_keys(Recipe))


@pytest.mark.parametrize("page", ["recipes.md", "bring-your-own.md"])
def test_the_recipes_of_the_documentation_are_read(tmp_path: Path, page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    recipes = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert recipes
    for recipe in recipes:
        assert load_recipe(write(tmp_path, recipe)).model.variant == "flashocc-m0"
