"""Checkpoints are read right: the float decoder gives what transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.errors import UserError
from exporters.illm.float_decoder import logits
from exporters.illm.source import open_source
from exporters.illm.tokenizer import Tokenizer
from tests.exporters.illm.checkpoints import KINDS, tokenizer_json, write_gguf

Checkpoint = Callable[[str], tuple[Path, Any]]
IDS = [5, 77, 200, 3, 3, 150, 319, 8, 41, 260, 12, 99]


def expected(network: Any) -> Any:
    import torch

    with torch.no_grad():
        return network(torch.tensor([IDS])).logits[0].numpy()


@pytest.mark.oracle
@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_agrees_with_transformers(checkpoint: Checkpoint, kind: str) -> None:
    folder, network = checkpoint(kind)
    found, right = logits(open_source(folder), IDS), expected(network)
    # float32 in another order of summation; logits are of order ten
    np.testing.assert_allclose(found, right, atol=2e-3 * np.abs(right).max())


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["llama-tied", "llama-untied", "qwen2"])
def test_gguf_gives_the_same_network(checkpoint: Checkpoint, kind: str, tmp_path: Path) -> None:
    _, network = checkpoint(kind)
    write_gguf(network, tmp_path / "m.gguf")
    source = open_source(tmp_path / "m.gguf")
    right = expected(network)
    np.testing.assert_allclose(logits(source, IDS), right, atol=2e-3 * np.abs(right).max())
    assert source.config.stop_tokens == (1,)
    assert "dequantized from GGUF" in source.notes[0]


def test_the_tokenizer_of_a_gguf_file_is_the_original(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import tokenizers

    _, network = checkpoint("llama-tied")
    write_gguf(network, tmp_path / "m.gguf")
    ours = Tokenizer(open_source(tmp_path / "m.gguf").texts)
    right = tokenizers.Tokenizer.from_str(tokenizer_json())
    for text in (
        "The harbour lay quiet.",
        "430 °C, it's\n\n  fine",
        "<|start|>x",
        "äöü 漢字 🙂",
        "",
    ):
        assert ours.encode(text) == right.encode(text).ids
        assert ours.decode(ours.encode(text)) == right.decode(right.encode(text).ids)


def test_a_missing_shard_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, network = checkpoint("llama-untied")
    network.save_pretrained(tmp_path, max_shard_size="60KB")
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"lacks 1 shards: {gone.name}"):
        open_source(tmp_path)
    assert folder


def test_a_configuration_of_another_network_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder, _ = checkpoint("llama-tied")
    shutil.copytree(folder, tmp_path / "m")
    changed(tmp_path / "m", intermediate_size=128)
    with pytest.raises(UserError, match=r"has shape \[96, 64\], the configuration asks for \[128"):
        open_source(tmp_path / "m").layer(0)
    changed(tmp_path / "m", num_hidden_layers=3)
    with pytest.raises(UserError, match=r"holds no tensor 'model\.layers\.2"):
        open_source(tmp_path / "m").layer(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt_neox"}, "architecture 'gpt_neox' is not known. Known: llama, qwen2"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary scaling 'yarn' is not known"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu', which is not covered"),
        ({"num_key_value_heads": 3}, "4 heads cannot share 3 key-value heads"),
        ({"hidden_size": None}, "the configuration lacks 'hidden_size'"),
    ],
)
def test_what_is_not_covered_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder, _ = checkpoint("llama-tied")
    shutil.copytree(folder, tmp_path / "m")
    changed(tmp_path / "m", **change)
    with pytest.raises(UserError, match=words):
        open_source(tmp_path / "m")


def test_damaged_files_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, network = checkpoint("llama-tied")
    shutil.copytree(folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="no readable safetensors file"):
        open_source(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        open_source(tmp_path / "m")
    write_gguf(network, tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:3000])
    with pytest.raises(UserError, match="no readable GGUF file"):
        open_source(tmp_path / "m.gguf")
    for path, words in ((tmp_path / "none", "no checkpoint at"), (weights, "neither a directory")):
        with pytest.raises(UserError, match=words):
            open_source(path)


def test_no_tokenizer_says_how_to_save_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("llama-tied")
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json\. Save it with: AutoTokenizer"):
        _ = open_source(tmp_path / "m").texts


def changed(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
