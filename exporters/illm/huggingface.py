"""A Hugging Face directory: ``config.json``, ``*.safetensors`` (one or in shards), tokenizer."""

from __future__ import annotations

import json
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file
from exporters.illm.config import Config, from_huggingface
from exporters.illm.source import Array, Layer, Texts, shaped

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


class HuggingFaceSource:
    """Implements `exporters.illm.source.Source`; tensors stay on disk until they are asked for."""

    licence: str | None = None

    def __init__(self, folder: Path) -> None:
        for name in ("torch", "safetensors"):
            if find_spec(name) is None:
                raise MissingRequirementError(
                    f"{name} is not installed; reading safetensors needs it",
                    fix="pip install 'edgeport[export]'",
                )
        self.folder = folder
        config = _read_json(folder / "config.json", required=True)
        self._generation = _read_json(folder / "generation_config.json")
        self._tokenizer_config = _read_json(folder / "tokenizer_config.json")
        self.config: Config = from_huggingface(config, self._generation)
        self.notes = (f"stored as {config.get('dtype') or config.get('torch_dtype') or 'unknown'}",)
        self._files = self._find_files()

    @cached_property
    def sha256(self) -> str:
        files = [self.folder / "config.json", *sorted(set(self._files.values()))]
        return sha256_bytes("".join(sha256_file(file) for file in files).encode())

    @cached_property
    def texts(self) -> Texts:
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            raise UserError(
                f"{self.folder} has no tokenizer.json",
                fix="Save it with: AutoTokenizer.from_pretrained(...).save_pretrained(DIR)",
            )
        template = self.folder / "chat_template.jinja"
        named = self._tokenizer_config.get("chat_template")
        chat = template.read_text() if template.is_file() else named
        return Texts(
            tokenizer_json=file.read_text(encoding="utf-8"),
            chat_template=chat if isinstance(chat, str) else None,
            special_tokens={
                key: _content(self._tokenizer_config[key])
                for key in ("bos_token", "eos_token")
                if self._tokenizer_config.get(key)
            },
        )

    def embedding(self) -> Array:
        return self._matrix("model.embed_tokens.weight", self.config.vocabulary, self.config.hidden)

    def head(self) -> Array:
        if self.config.tied:
            return self.embedding()
        return self._matrix("lm_head.weight", self.config.vocabulary, self.config.hidden)

    def final_gain(self) -> Array:
        return self._matrix("model.norm.weight", self.config.hidden)

    def layer(self, index: int) -> Layer:
        c, prefix = self.config, f"model.layers.{index}."

        def matrix(name: str, *shape: int) -> Array:
            return self._matrix(prefix + name, *shape)

        widths = {"q": c.attention_width, "k": c.kv_width, "v": c.kv_width}
        qkv = [matrix(f"self_attn.{k}_proj.weight", n, c.hidden) for k, n in widths.items()]
        bias = [matrix(f"self_attn.{k}_proj.bias", n) for k, n in widths.items() if c.biased]
        gate_up = [matrix(f"mlp.{k}_proj.weight", c.ffn, c.hidden) for k in ("gate", "up")]
        return Layer(
            attention_gain=matrix("input_layernorm.weight", c.hidden),
            qkv=np.concatenate(qkv).T,
            qkv_bias=np.concatenate(bias) if bias else None,
            output=matrix("self_attn.o_proj.weight", c.hidden, c.attention_width).T,
            ffn_gain=matrix("post_attention_layernorm.weight", c.hidden),
            gate_up=np.concatenate(gate_up).T,
            down=matrix("mlp.down_proj.weight", c.hidden, c.ffn).T,
        )

    def _find_files(self) -> dict[str, Path]:
        """Tensor name to the file that holds it."""
        index = self.folder / _INDEX
        if not index.is_file():
            single = self.folder / _SINGLE
            if not single.is_file():
                raise UserError(
                    f"{self.folder} has neither {_SINGLE} nor {_INDEX}",
                    fix="Save the weights with: model.save_pretrained(DIR)",
                )
            with _opened(single) as tensors:
                return dict.fromkeys(tensors.keys(), single)
        files = {
            str(name): self.folder / str(file)
            for name, file in _read_json(index).get("weight_map", {}).items()
        }
        missing = sorted({file.name for file in files.values() if not file.is_file()})
        if missing:
            raise UserError(
                f"{self.folder} lacks {len(missing)} shards: {', '.join(missing)}",
                fix="Download or copy them again; the index names them",
            )
        return files

    def _matrix(self, name: str, *shape: int) -> Array:
        if name not in self._files:
            raise UserError(
                f"{self.folder} holds no tensor {name!r}",
                fix="Check that config.json belongs to these weights",
            )
        with _opened(self._files[name]) as tensors:
            return shaped(tensors.get_tensor(name).float().numpy(), shape, name)


def _opened(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is no readable safetensors file: {error}",
            fix="It may be truncated; copy it again",
        ) from error


def _read_json(file: Path, *, required: bool = False) -> dict[str, Any]:
    if not file.is_file():
        if required:
            raise UserError(
                f"{file.parent} has no {file.name}", fix="Name a Hugging Face model directory"
            )
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}", fix="Copy it again") from error
    return content if isinstance(content, dict) else {}


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
