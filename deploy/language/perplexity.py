"""How well a language model predicts a text, and how near it is to another one.

A text is cut into windows of equal length without overlap; every token but a window's first is
predicted from those before it in the window:

    perplexity  exp(mean of -ln p(token))
    KL          mean over positions of sum p ln(p / q), p the reference's distribution
    top-1       share of positions where both find the same token likeliest

Both models see the same windows, so the ratio of their perplexities has a much narrower interval
than either of them; windows are the samples (`deploy.metrics.paired`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.language.stepping import Floats, LanguageModel
from deploy.metrics.paired import PairedInterval, pooled_interval
from exporters.errors import UserError

Progress = Callable[[str, int, int], None]

WINDOW = 512
_STEP = 128  # tokens at once; logits of a window would take gigabytes with a large vocabulary


@dataclass(frozen=True)
class Window:
    """Sums over the predicted positions of one window.

    Attributes:
        loss, reference_loss: of -ln p.
        divergence: of KL(reference || candidate).
        same: positions with the same likeliest token.
    """

    positions: int
    loss: float
    reference_loss: float
    divergence: float
    same: int


@dataclass(frozen=True)
class TextComparison:
    """A candidate against a reference on one text."""

    windows: tuple[Window, ...]

    @property
    def tokens(self) -> int:
        """Predicted positions."""
        return sum(window.positions for window in self.windows)

    @property
    def perplexity(self) -> float:
        return math.exp(sum(window.loss for window in self.windows) / self.tokens)

    @property
    def reference_perplexity(self) -> float:
        return math.exp(sum(window.reference_loss for window in self.windows) / self.tokens)

    @property
    def ratio(self) -> float:
        return self.perplexity / self.reference_perplexity

    @property
    def measures(self) -> dict[str, PairedInterval | None]:
        """Each measure with its 95 % interval over windows; None for fewer than two windows."""
        rows = np.array(
            [[w.positions, w.loss, w.reference_loss, w.divergence, w.same] for w in self.windows]
        )
        return {
            name: pooled_interval(rows, statistic) if len(rows) > 1 else None
            for name, statistic in _MEASURES.items()
        }

    @property
    def divergence(self) -> float:
        """Mean KL divergence of the next-token distribution, nats."""
        return sum(window.divergence for window in self.windows) / self.tokens

    @property
    def top1_agreement(self) -> float:
        return sum(window.same for window in self.windows) / self.tokens

    def value(self, name: str) -> float:
        """A measure by its name, see ``MEASURES``."""
        return {
            "perplexity": self.perplexity,
            "perplexity_ratio": self.ratio,
            "kl_nats": self.divergence,
            "top1_agreement": self.top1_agreement,
        }[name]

    def to_json(self) -> dict[str, Any]:
        found = {"tokens": self.tokens, "windows": len(self.windows)}
        measures = {
            name: {
                "value": self.value(name),
                "interval_95": None if interval is None else [interval.low, interval.high],
            }
            for name, interval in self.measures.items()
        }
        return {**found, "reference_perplexity": self.reference_perplexity, **measures}


_MEASURES: dict[str, Callable[[Floats], Floats]] = {
    "perplexity": lambda sums: np.exp(sums[..., 1] / sums[..., 0]),
    "perplexity_ratio": lambda sums: np.exp((sums[..., 1] - sums[..., 2]) / sums[..., 0]),
    "kl_nats": lambda sums: sums[..., 3] / sums[..., 0],
    "top1_agreement": lambda sums: sums[..., 4] / sums[..., 0],
}
MEASURES = tuple(_MEASURES)


def compare_on_text(
    reference: LanguageModel,
    candidate: LanguageModel,
    text: str,
    *,
    window: int = WINDOW,
    max_tokens: int | None = None,
    progress: Progress | None = None,
) -> TextComparison:
    """Both models on ``text``, window by window.

    Raises:
        UserError: the text is too short, or the models do not share a vocabulary.
    """
    pieces = windows_of(reference, candidate, text, window=window, max_tokens=max_tokens)
    done = []
    for index, ids in enumerate(pieces):
        right, found = log_probabilities(reference, ids), log_probabilities(candidate, ids)
        done.append(compare_window(right, found, ids))
        if progress is not None:
            progress("windows", index + 1, len(pieces))
    return TextComparison(tuple(done))


def windows_of(
    reference: LanguageModel,
    candidate: LanguageModel,
    text: str,
    *,
    window: int = WINDOW,
    max_tokens: int | None = None,
) -> list[list[int]]:
    """Token ids in windows of equal length; what is left over at the end is not judged."""
    longest = min(reference.context, candidate.context)
    if not 2 <= window <= longest:
        raise UserError(
            f"windows of {window} tokens do not fit", fix=f"Choose --window from 2 to {longest}"
        )
    ids = reference.tokenizer.encode(text)
    if ids != candidate.tokenizer.encode(text):
        raise UserError(
            "the two files tokenize this text differently; losses cannot be compared",
            fix="Compare files that come from one checkpoint",
        )
    ids = ids[:max_tokens]
    if len(ids) < window:
        raise UserError(
            f"the text has {len(ids)} tokens, fewer than one window of {window}",
            fix="Give a longer text, or a smaller --window",
        )
    return [ids[start : start + window] for start in range(0, len(ids) - window + 1, window)]


def compare_window(
    reference: Iterable[Floats], candidate: Iterable[Floats], ids: Sequence[int]
) -> Window:
    """Losses, divergence and agreement over one window, from both sides' `log_probabilities`."""
    loss = reference_loss = divergence = 0.0
    same = 0
    for targets, p, q in zip(_targets(ids), reference, candidate, strict=True):
        rows = np.arange(len(targets))
        p, q = p[: len(targets)], q[: len(targets)]  # the window's last token predicts nothing
        reference_loss -= float(p[rows, targets].sum())
        loss -= float(q[rows, targets].sum())
        divergence += float((np.exp(p) * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    return Window(len(ids) - 1, loss, reference_loss, divergence, same)


def _targets(ids: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    following = np.asarray(ids[1:], np.int64)
    for start in range(0, len(ids), _STEP):
        yield following[start : start + _STEP]


def log_probabilities(model: LanguageModel, ids: Sequence[int]) -> Iterator[Floats]:
    """Logarithms of every next token's probability, from an empty cache on.

    Yields:
        float64 ``[up to 128, vocabulary]``, until every position of ``ids`` had its turn.
    """
    model.reset()
    for start in range(0, len(ids), _STEP):
        logits = model.step(ids[start : start + _STEP], keep=0)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        yield logits


def read_text(path: Path) -> str:
    """UTF-8 text, also from a ``.gz`` file.

    Raises:
        UserError: no such file, or not UTF-8.
    """
    import gzip

    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}", fix="Name a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8: {error.reason} at byte {error.start}",
            fix="Convert it, for example: iconv -f latin1 -t utf-8",
        ) from error
