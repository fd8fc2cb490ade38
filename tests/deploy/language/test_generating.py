"""Generation: streamed text, greedy and drawn, stop tokens, context, chat template."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.cli import run
from deploy.language.generating import generate
from deploy.language.sampling import Sampling
from deploy.language.stepping import LanguageModel
from exporters.errors import UserError
from exporters.modelfile import ModelFile

Models = dict[str, LanguageModel]


def test_greedy_text_is_what_whole_passes_give(models: Models) -> None:
    """Token by token with a cache, against the prompt and all tokens so far in one pass."""
    model = models["integer"]
    result = generate(model, "The harbour", max_tokens=12, ignore_stop=True)
    ids = model.tokenizer.encode("The harbour")
    for token in result.tokens:
        model.reset()
        assert int(np.argmax(model.step(ids)[-1])) == token
        ids.append(token)
    assert result.ending == "length"
    assert result.text == model.tokenizer.decode(result.tokens)


@pytest.mark.oracle
def test_greedy_text_of_the_float_file_is_that_of_transformers(
    models: Models, tmp_path: Path
) -> None:
    import torch

    from tests.exporters.illm.checkpoints import make

    model = models["float"]
    network = make("llama-tied", tmp_path)
    ids = model.tokenizer.encode("The committee met on Tuesday")
    result = generate(model, "The committee met on Tuesday", max_tokens=16, ignore_stop=True)
    with torch.no_grad():
        for token in result.tokens:
            assert int(network(torch.tensor([ids])).logits[0, -1].argmax()) == token
            ids.append(token)


def test_pieces_add_up_to_the_text_and_hold_whole_characters(models: Models) -> None:
    """A random network writes random bytes, most of them parts of characters."""
    pieces: list[str] = []
    result = generate(
        models["integer"],
        "äöü",
        max_tokens=60,
        sampling=Sampling(temperature=2.0),
        seed=3,
        ignore_stop=True,
        show=pieces.append,
    )
    assert "".join(pieces).rstrip("\N{REPLACEMENT CHARACTER}") == result.text.rstrip(
        "\N{REPLACEMENT CHARACTER}"
    )
    assert len(pieces) > 1


def test_a_seed_repeats_the_draws(models: Models) -> None:
    def text(seed: int) -> tuple[int, ...]:
        drawn = Sampling(temperature=1.5, top_k=50)
        return generate(models["integer"], "x", max_tokens=20, sampling=drawn, seed=seed).tokens

    assert text(1) == text(1) != text(2)


def test_a_stop_token_ends_the_text(models: Models) -> None:
    model = models["integer"]
    tokens = generate(model, "The harbour", max_tokens=8, ignore_stop=True).tokens
    geometry = {**model.spec.geometry, "stop_tokens": [tokens[3]]}
    stopping = LanguageModel(
        dataclasses.replace(model.spec, geometry=geometry), model.tokenizer, model._session
    )
    result = generate(stopping, "The harbour", max_tokens=8)
    assert result.ending == "stop"
    assert result.tokens == tokens[: tokens.index(tokens[3])]


def test_the_context_ends_the_text_and_a_longer_prompt_is_refused(models: Models) -> None:
    model = models["integer"]
    result = generate(model, "a b c", max_tokens=500, ignore_stop=True)
    assert result.ending == "context"
    assert result.prompt_tokens + len(result.tokens) == model.context + 1  # the last is not fed
    with pytest.raises(UserError, match=r"the model's context is 128\. Give a shorter prompt"):
        generate(model, "word " * 200)
    model.reset()
    with pytest.raises(UserError, match="beyond the context of 128"):
        model.step([1] * 129)


def test_bad_prompts_are_refused(models: Models) -> None:
    model = models["integer"]
    with pytest.raises(UserError, match="the prompt is empty"):
        generate(model, "")
    with pytest.raises(UserError, match="--system belongs to --chat"):
        generate(model, "x", system="y")
    with pytest.raises(UserError, match="there are no tokens"):
        model.step([])
    with pytest.raises(UserError, match="token 99999 is not one of 320"):
        model.step([99999])


def test_the_chat_template_of_the_file_is_used(models: Models) -> None:
    text = models["integer"].tokenizer.chat("Hello", system="Be brief")
    assert text == "<|start|>system: Be brief<|start|>user: Hello"


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=40),
    st.floats(0.05, 5.0),
    st.integers(0, 10),
    st.floats(0.05, 1.0),
)
def test_drawn_tokens_are_among_those_allowed(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    values = np.array(logits)
    token = Sampling(temperature, top_k, top_p).choose(values, np.random.default_rng(0))
    order = np.argsort(-values, kind="stable")
    rank = int(np.flatnonzero(order == token)[0])
    assert top_k == 0 or rank < top_k
    shares = np.exp((values[order][: top_k or None] - values.max()) / temperature)
    before = (shares / shares.sum())[:rank].sum()
    assert before < top_p + 1e-9  # those in front of it do not hold top_p yet


def test_draws_follow_the_distribution() -> None:
    random = np.random.default_rng(5)
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    drawn = [Sampling(temperature=1.0).choose(logits, random) for _ in range(4000)]
    shares = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)  # four standard errors


@pytest.mark.parametrize(
    ("values", "words"),
    [({"temperature": -1.0}, "temperature"), ({"top_k": -1}, "top-k"), ({"top_p": 0.0}, "top-p")],
)
def test_bad_sampling_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Sampling(**values)


def test_the_command_prints_text_and_json(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(files["integer"])
    options = ["--prompt", "The harbour", "--max-tokens", "5", "--threads", "1"]
    assert run(["generate", path, *options]) == 0
    shown = capsys.readouterr()
    assert run(["generate", path, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert shown.out.strip() == found["text"].strip()
    assert "tokens (length), first after" in shown.err
    assert len(found["tokens"]) == 5


def test_the_command_refuses_bad_input(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(files["integer"])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for options, words in (
        ([], "give one prompt"),
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt-file", str(tmp_path / "latin.txt")], "is not UTF-8"),
        (["--prompt", "caf\udce9"], "the prompt is not UTF-8"),
        (["--prompt", "x", "--top-p", "2"], "top-p 2.0 is not in"),
    ):
        assert run(["generate", path, *options]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_file_of_another_task_is_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporters.modelfile import save_model

    file = ModelFile(files["integer"])
    other = dataclasses.replace(file.require_spec(), task="occupancy")
    save_model(file.proto, tmp_path / "o.onnx", spec=other)
    assert run(["generate", str(tmp_path / "o.onnx"), "--prompt", "x"]) == 2
    assert "is a model for occupancy, not for language" in capsys.readouterr().err
