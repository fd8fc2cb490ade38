"""Tiny random checkpoints, made by the libraries that define the formats."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.illm.sample_text import sample_text

VOCABULARY = 320
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama-tied": {"tie_word_embeddings": True},
    "llama-untied": {"num_key_value_heads": 4, "tie_word_embeddings": False},
    "llama3-rope": {"rope_parameters": LLAMA3_ROPE, "head_dim": 32},
    "linear-rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "qwen2": {"tie_word_embeddings": True, "num_key_value_heads": 1},
}


def make(kind: str, folder: Path) -> Any:
    """Write a Hugging Face directory of ``kind`` and return the network."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(7)
    family = "Qwen2" if kind == "qwen2" else "Llama"
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **KINDS[kind]})
    network = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2:  # as varied as trained weights: some channels are large
                parameter.mul_(4.0)
                parameter.mul_(torch.exp(0.5 * torch.randn(1, parameter.shape[1])))
            elif "norm" in name:
                parameter.mul_(torch.exp(0.3 * torch.randn(parameter.shape)))
            else:
                parameter.normal_(0.0, 0.5)
    network.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    template = "{% for m in messages %}<|start|>{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return network


@functools.cache
def tokenizer_json() -> str:
    """A byte-level BPE of our own, trained on the package's text."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([sample_text()], trainer)
    return str(tokenizer.to_str())


def write_gguf(network: Any, path: Path) -> None:
    """``network`` as llama.cpp stores it: q and k of LLaMA with neighbouring rotary pairs."""
    gguf = pytest.importorskip("gguf")
    c = network.config
    writer = gguf.GGUFWriter(path, c.model_type)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    _write_tokenizer(writer)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.layers": "blk",
    }
    heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}
    heads = heads if c.model_type == "llama" else {}
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        for key, count in heads.items():
            if key in name:
                halves = array.reshape(count, 2, -1, array.shape[1])
                array = halves.swapaxes(1, 2).reshape(array.shape)
        for old, new in names.items():
            name = name.replace(old, new)
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: Any) -> None:
    content = json.loads(tokenizer_json())
    vocabulary = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    special = {token["content"] for token in content["added_tokens"]}
    tokens = [token for token, _ in vocabulary]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in content["model"]["merges"]])
    writer.add_eos_token_id(1)
