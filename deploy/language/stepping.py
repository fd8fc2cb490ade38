"""A language model file as a thing that takes tokens: its session, its cache, its tokenizer.

    with LanguageModel.open(Path("smollm2.onnx")) as model:
        scores = model.step(model.tokenizer.encode("The capital of France is"))

What the cache is, and how logits become real numbers, is read from the self-description, so integer
and float files step alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError
from exporters.illm.source import Texts
from exporters.illm.tokenizer import TEMPLATE_KEY, TOKENIZER_KEY, Tokenizer
from exporters.modelfile import ModelFile, ModelSpec
from runtimes.base import Session
from runtimes.kernels import load_with_kernels
from runtimes.registry import get, runtime_for

Floats = NDArray[np.float64]
_TASK = "language"


class LanguageModel:
    """One file, one text at a time.

    Attributes:
        spec: the file's self-description.
        tokenizer: the one that the file carries.
    """

    def __init__(self, spec: ModelSpec, tokenizer: Tokenizer, session: Session) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self._session = session
        self._states: dict[str, NDArray[Any]] = {}
        self._checked = False
        self._keeps = any(port.name == "logits_to_keep" for port in spec.inputs)
        self.reset()

    @classmethod
    def open(
        cls, path: Path, *, threads: int | None = None, kernels: bool = False
    ) -> LanguageModel:
        """Load ``path``.

        Args:
            kernels: compute the file's functions with compiled kernels (`runtimes.kernels`), which
                give the same bits sooner.

        Raises:
            UserError: no such file, not a language model, it carries no tokenizer, or no functions
                that there are kernels for.
            MissingRequirementError: the runtime or the tokenizer's library is not here, or what
                compiles the kernels.
        """
        model = ModelFile(path)
        spec = model.require_spec()
        if spec.task != _TASK:
            raise UserError(
                f"{path} is a model for {spec.task}, not for language",
                fix="Export one with: edgeport export illm --checkpoint DIR -o m.onnx",
            )
        tokenizer = Tokenizer(_texts(model, spec), spec.geometry.get("begin_token"))
        functions = {function.name for function in model.proto.functions}
        del model  # its weights are not needed twice
        if kernels:
            return cls(spec, tokenizer, load_with_kernels(path, functions, threads=threads))
        return cls(spec, tokenizer, get(runtime_for(path)).load(path, threads=threads))

    @property
    def context(self) -> int:
        """Positions that the file is made for."""
        return int(self.spec.geometry["context"])

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        return tuple(self.spec.geometry.get("stop_tokens", ()))

    @property
    def position(self) -> int:
        """Tokens in the cache."""
        return int(next(iter(self._states.values())).shape[2])

    @property
    def cache_bytes(self) -> int:
        return sum(state.nbytes for state in self._states.values())

    def reset(self) -> None:
        """Begin a new text: states become empty along their dynamic axis."""
        self._states = {}
        for state in self.spec.states:
            port = self.spec.input(state.input)
            shape = [size if isinstance(size, int) else 0 for size in port.shape]
            self._states[port.name] = np.zeros(shape, port.dtype)

    def step(self, ids: Sequence[int], keep: int = 1) -> Floats:
        """Take ``ids`` in and return real logits float64 ``[keep, vocabulary]`` of the last ones.

        Args:
            keep: 0 for all of ``ids``; files for TensorRT give the last one's only.

        Raises:
            UserError: no ids, an id that the model does not know, or the context is full.
        """
        self._require_fitting(ids)
        feeds = {"input_ids": np.asarray([ids], np.int64), **self._states}
        if self._keeps:
            feeds["logits_to_keep"] = np.array([keep], np.int64)
        elif keep != 1:
            raise UserError(
                "this file gives logits of the last token only",
                fix="Compare the form for ONNX Runtime, which has the same bits",
            )
        run = self._session.execute if self._checked else self._session.run
        outputs = run(feeds)
        self._checked = True
        self._states = {state.input: outputs[state.output] for state in self.spec.states}
        logits: Floats = outputs["logits"][0].astype(np.float64)
        if "logits_mantissa" in outputs:
            exponent = -outputs["logits_exponent"][0].astype(np.float64)
            logits *= outputs["logits_mantissa"][0] * np.exp2(exponent)
        return logits

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_fitting(self, ids: Sequence[int]) -> None:
        if not ids:
            raise UserError("there are no tokens to take in", fix="Give a text that is not empty")
        if self.position + len(ids) > self.context:
            raise UserError(
                f"{self.position} tokens in the cache and {len(ids)} more are beyond the context "
                f"of {self.context}",
                fix="Give a shorter text, or export with a larger --context",
            )
        vocabulary = int(self.spec.geometry["vocabulary"])
        if min(ids) < 0 or max(ids) >= vocabulary:
            raise UserError(
                f"token {max(ids)} is not one of {vocabulary}",
                fix="The tokenizer belongs to another model; export again",
            )


def _texts(model: ModelFile, spec: ModelSpec) -> Texts:
    metadata = {prop.key: prop.value for prop in model.proto.metadata_props}
    if TOKENIZER_KEY not in metadata:
        raise UserError(
            f"{model.path} carries no tokenizer",
            fix="Export it with: edgeport export illm --checkpoint DIR -o m.onnx",
        )
    return Texts(
        tokenizer_json=metadata[TOKENIZER_KEY],
        chat_template=metadata.get(TEMPLATE_KEY),
        special_tokens=spec.geometry.get("special_tokens", {}),
    )
