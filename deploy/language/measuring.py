"""The child process of a token benchmark: one language model and nothing else in memory.

{"do": "load", "path", "threads", "kernels", "prompt", "steps"}
{"do": "text", "seed"}     seconds for a prompt and for the steps after it, measured in here
{"do": "memory"}           peak of this process, and what it was before the model came
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from deploy.language.stepping import LanguageModel
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.kernels import kernel_names
from runtimes.measuring import peak_rss_mib
from runtimes.registry import get, runtime_for
from runtimes.serving import Emit, Message, serve


class _Server:
    def __init__(self) -> None:
        self._model: LanguageModel | None = None
        self._prompt = self._steps = 0
        self._baseline_mib = self._cache_bytes = 0.0

    def handle(self, request: Message, _emit: Emit) -> Message:
        return getattr(self, f"_{request['do']}")(request)  # type: ignore[no-any-return]

    def _load(self, request: Message) -> Message:
        path = Path(request["path"])
        get(runtime_for(path)).probe()
        self._baseline_mib = peak_rss_mib()
        self._prompt, self._steps = request["prompt"], request["steps"]
        kernels = request["kernels"] and _has_kernels(path)
        started = time.perf_counter()
        self._model = LanguageModel.open(path, threads=request["threads"], kernels=kernels)
        load_s = time.perf_counter() - started
        if self._prompt + self._steps > self._model.context:
            raise UserError(
                f"{self._prompt} and {self._steps} tokens are beyond the context of "
                f"{self._model.context} of {path.name}",
                fix="Give fewer with --prompt-tokens and --tokens",
            )
        return {"load_s": load_s, "kernels": kernels}

    def _text(self, request: Message) -> Message:
        assert self._model is not None
        model, random = self._model, np.random.default_rng(request["seed"])
        vocabulary = int(model.spec.geometry["vocabulary"])
        ids = random.integers(0, vocabulary, self._prompt + self._steps).tolist()
        model.reset()
        started = time.perf_counter()
        model.step(ids[: self._prompt])
        prefilled = time.perf_counter()
        for token in ids[self._prompt :]:
            model.step([token])
        ended = time.perf_counter()
        self._cache_bytes = model.cache_bytes / model.position
        return {"prefill_s": prefilled - started, "decode_s": ended - prefilled}

    def _memory(self, _request: Message) -> Message:
        return {
            "peak_mib": peak_rss_mib(),
            "baseline_mib": self._baseline_mib,
            "cache_bytes_a_token": self._cache_bytes,
        }


def _has_kernels(path: Path) -> bool:
    """Float files have no functions; they run as they are."""
    return bool(kernel_names() & {function.name for function in ModelFile(path).proto.functions})


def main() -> None:
    serve(_Server().handle)
