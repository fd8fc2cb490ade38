"""A recipe of a language model: integer files, a text, completions, one verdict and one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy import Bundle, Recipe, load_recipe, run
from deploy.language.completions import complete
from deploy.language.generating import generate
from deploy.language.stepping import LanguageModel
from deploy.language.verifying import verify_on_text
from deploy.provenance.remaking import rebuild_and_compare
from exporters.errors import UserError
from exporters.illm.sample_text import sample_text

PROMPTS = ["The sea is", "A triangle has"]


@pytest.fixture(scope="module")
def made(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("language-recipe")
    (folder / "prose.txt").write_text(sample_text())
    (folder / "checkpoint").symlink_to(files["float"].parent / "checkpoint")
    (folder / "recipe.yaml").write_text(
        """
        title: a tiny decoder
        model: {variant: illm, checkpoint: checkpoint, options: {context: 128}}
        language:
          bits: [W8A8, W4A8]
          text: prose.txt
          window: 32
          max_tokens: 128
          prompts: [The sea is, A triangle has]
          tokens: 12
        contract:
          require: ["perplexity_ratio<=1.5", "top1_agreement>=0.999"]
          files: [w8a8]
        """
    )
    return run(load_recipe(folder / "recipe.yaml"), folder / "bundle")


def test_the_files_are_those_of_the_exporter(made: Bundle, files: dict[str, Path]) -> None:
    models = made.path / "models"
    assert (models / "fp32.onnx").read_bytes() == files["float"].read_bytes()
    assert (models / "w8a8.onnx").read_bytes() == files["integer"].read_bytes()
    roles = [file["role"] for file in made.report["model"]["files"]]
    assert roles == ["fp32", "w8a8", "w4a8"]
    assert made.differences() == []
    assert rebuild_and_compare(made).is_the_same


def test_measures_are_those_of_verify_and_the_contract_is_judged_by_them(made: Bundle) -> None:
    models, text = made.path / "models", made.path.parent / "prose.txt"
    found = verify_on_text(
        models / "fp32.onnx", models / "w8a8.onnx", text, window=32, max_tokens=128
    ).comparison
    entry = made.report["agreement"][0]
    assert entry["candidate"] == "w8a8.onnx"
    assert entry["summary"]["perplexity_ratio"] == found.ratio
    assert [sample["name"] for sample in entry["samples"]] == [f"window {i}" for i in (1, 2, 3, 4)]
    checks = {check["term"]: check for check in made.report["verdict"]["checks"]}
    interval = found.measures["top1_agreement"]
    assert interval is not None
    judged = checks["top1_agreement>=0.999"]
    assert (judged["value"], judged["low"]) == (found.top1_agreement, interval.low)
    assert judged["name"] == "w8a8: top1_agreement"
    assert made.report["verdict"]["status"] != "pass"


def test_texts_are_those_of_generate(made: Bundle) -> None:
    with LanguageModel.open(made.path / "models" / "w4a8.onnx") as model:
        expected = generate(model, PROMPTS[1], max_tokens=12, ignore_stop=True)
    completion = made.report["completions"][1]
    assert completion["prompt"] == PROMPTS[1]
    reference, _, w4a8 = completion["texts"]
    assert (w4a8["name"], w4a8["text"], w4a8["tokens"]) == ("w4a8", expected.text, 12)
    assert reference["same_tokens"] is None
    assert w4a8["text"][: w4a8["same_text"]] == reference["text"][: w4a8["same_text"]]
    page = made.page.read_text()
    assert "Identical texts" in page
    assert "<summary>A triangle has</summary>" in page


def test_a_second_run_does_nothing_again(made: Bundle) -> None:
    again = run(load_recipe(made.path.parent / "recipe.yaml"), made.path, overwrite=True)
    assert all(stage["cached"] for stage in again.report["stages"])


def test_the_same_model_writes_the_same(models: dict[str, LanguageModel]) -> None:
    twice = {"first": models["integer"], "second": models["integer"]}
    for completion in complete(twice, PROMPTS, tokens=6):
        first, second = completion.texts
        assert second.same_tokens == second.tokens == 6
        assert second.text == first.text
        assert second.same_text == len(first.text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"benchmark": {}}, "language and benchmark exclude each other"),
        ({"engines": [{"from": "fp32"}]}, "language and engines exclude each other"),
        ({"model": {"variant": "illm"}}, "language needs model.variant and model.checkpoint"),
        ({"language": {"bit": ["W8A8"]}}, "bit"),
        ({"language": {"bits": ["W8A8", "W8A9"]}}, "unknown precision 'W8A9'"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    recipe = {"model": {"variant": "illm", "checkpoint": "c"}, "language": {}, **more}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    with pytest.raises(UserError, match=words):
        load_recipe(path)


def test_what_works_on_samples_is_left_out() -> None:
    recipe = Recipe.model_validate(
        {"model": {"variant": "illm", "checkpoint": "c"}, "language": {"bits": ["W8A8", "W6A6"]}}
    )
    assert (recipe.quantization, recipe.benchmark, recipe.verify) == (None, None, None)
    assert recipe.roles == ["fp32", "w8a8", "w6a6"]
