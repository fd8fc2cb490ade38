"""The tokenizer inside a GGUF file, written in the format of the ``tokenizers`` library.

Byte-level BPE (``tokenizer.ggml.model`` = ``gpt2``) is covered: vocabulary and merges are in the
file, and ``tokenizer.ggml.pre`` names the rule that splits text before merging. A SentencePiece
vocabulary is not; export such a model from its Hugging Face directory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporters.errors import UserError, did_you_mean
from exporters.illm.source import Texts

_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _bytes(*, by_rule: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": by_rule,
    }


def _pattern(numbers: str) -> list[dict[str, Any]]:
    regex = f"{_CONTRACTIONS}|{_WORDS}|{numbers}|{_OTHER}"
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return [split, _bytes(by_rule=False)]


_RULES: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_bytes(by_rule=True)],
    "default": [_bytes(by_rule=True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _bytes(by_rule=True)],
    "qwen2": _pattern(r"\p{N}"),
    "llama-bpe": _pattern(r"\p{N}{1,3}"),
}


def texts_from_gguf(value: Callable[[str], Any], path: Path) -> Texts:
    """Tokenizer and chat template of the file whose keys ``value`` reads.

    Raises:
        UserError: another kind of vocabulary, or an unknown splitting rule.
    """
    model = value("tokenizer.ggml.model")
    if model != "gpt2":
        raise UserError(
            f"{path} has a {model!r} vocabulary; byte-level BPE alone can be read from GGUF",
            fix="Export the model from its Hugging Face directory, which has tokenizer.json",
        )
    rule = str(value("tokenizer.ggml.pre") or "default")
    if rule not in _RULES:
        raise UserError(
            f"{path} splits text by the rule {rule!r}, which is not known",
            fix=f"{did_you_mean(rule, _RULES)}, or export from a Hugging Face directory",
        )
    tokens = [str(token) for token in value("tokenizer.ggml.tokens")]
    kinds = value("tokenizer.ggml.token_type") or [1] * len(tokens)
    names = {"bos_token": "bos_token_id", "eos_token": "eos_token_id"}
    special = {key: value(f"tokenizer.ggml.{name}") for key, name in names.items()}
    return Texts(
        tokenizer_json=json.dumps(_tokenizer(value, tokens, kinds, rule), ensure_ascii=False),
        chat_template=value("tokenizer.chat_template"),
        special_tokens={k: tokens[int(v)] for k, v in special.items() if v is not None},
    )


def _tokenizer(
    value: Callable[[str], Any], tokens: list[str], kinds: list[int], rule: str
) -> dict[str, Any]:
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": rule == "llama-bpe",
        "vocab": {token: index for index, token in enumerate(tokens)},
        "merges": [str(merge).split(" ", 1) for merge in value("tokenizer.ggml.merges")],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if rule == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _RULES[rule]},
        "post_processor": None,
        "decoder": _bytes(by_rule=True),
        "model": model,
    }
