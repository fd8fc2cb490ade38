"""Text from a language model, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deploy.language.sampling import Sampling
from deploy.language.stepping import LanguageModel
from exporters.errors import UserError

Ending = Literal["length", "stop", "context"]


@dataclass(frozen=True)
class Generation:
    """What was generated, and how fast.

    Attributes:
        prompt_tokens: taken in before the first token came out.
        tokens: ids that were generated, without a stop token.
        ending: why it ended: enough tokens, a stop token, or the context is full.
        prefill_s, decode_s: wall-clock seconds until the first token, and for all the others.
    """

    text: str
    prompt_tokens: int
    tokens: tuple[int, ...]
    ending: Ending
    prefill_s: float
    decode_s: float

    @property
    def decode_tokens_per_s(self) -> float:
        """Of the tokens after the first; 0 where there were none."""
        steps = len(self.tokens) - 1
        return steps / self.decode_s if steps > 0 and self.decode_s else 0.0


def generate(
    model: LanguageModel,
    prompt: str,
    *,
    max_tokens: int = 128,
    sampling: Sampling | None = None,
    seed: int = 0,
    chat: bool = False,
    system: str | None = None,
    ignore_stop: bool = False,
    show: Callable[[str], None] | None = None,
) -> Generation:
    """Continue ``prompt``, or answer it.

    Args:
        chat: put the prompt into the model's chat template.
        system: the conversation's first message, with ``chat``.
        ignore_stop: go on after a stop token, for timings and comparisons.
        show: called with each piece of text as it comes.

    Raises:
        UserError: empty prompt, no chat template, or the prompt does not fit the context.
    """
    ids = _prompt_ids(model, prompt, chat=chat, system=system)
    choose, random = sampling or Sampling(), np.random.default_rng(seed)
    stops = () if ignore_stop else model.stop_tokens
    model.reset()
    started = time.perf_counter()
    token = choose.choose(model.step(ids)[-1], random)
    first = time.perf_counter()
    tokens: list[int] = []
    shown = _Stream(model, show)
    ending: Ending = "length"
    while len(tokens) < max_tokens:
        if token in stops:
            ending = "stop"
            break
        tokens.append(token)
        shown.add(token)
        if len(tokens) == max_tokens:
            break
        if model.position + 1 > model.context:
            ending = "context"
            break
        token = choose.choose(model.step([token])[-1], random)
    ended = time.perf_counter()
    shown.end()
    return Generation(
        text=model.tokenizer.decode(tokens),
        prompt_tokens=len(ids),
        tokens=tuple(tokens),
        ending=ending,
        prefill_s=first - started,
        decode_s=ended - first,
    )


def _prompt_ids(model: LanguageModel, prompt: str, *, chat: bool, system: str | None) -> list[int]:
    if not prompt:
        raise UserError("the prompt is empty", fix="Give --prompt TEXT")
    if system is not None and not chat:
        raise UserError("--system belongs to --chat", fix="Add --chat")
    if chat:
        text = model.tokenizer.chat(prompt, system)
        ids = model.tokenizer.encode(text, special=False)  # the template has written them
    else:
        ids = model.tokenizer.encode(prompt)
    if len(ids) >= model.context:
        raise UserError(
            f"the prompt has {len(ids)} tokens, the model's context is {model.context}",
            fix="Give a shorter prompt, or export with a larger --context",
        )
    return ids


class _Stream:
    """Text as tokens come; a character of several tokens waits until it is complete."""

    def __init__(self, model: LanguageModel, show: Callable[[str], None] | None) -> None:
        self._tokenizer = model.tokenizer
        self._show = show
        self._tokens: list[int] = []
        self._shown = 0

    def add(self, token: int) -> None:
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._put(text)

    def end(self) -> None:
        if self._tokens:
            self._put(self._tokenizer.decode(self._tokens))

    def _put(self, text: str) -> None:
        if self._show is not None and len(text) > self._shown:
            self._show(text[self._shown :])
        self._shown = len(text)
