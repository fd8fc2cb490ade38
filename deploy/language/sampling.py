"""Choosing the next token: the likeliest, or drawn from the temperature's distribution.

    p_i ~ exp(logit_i / temperature), over the top_k likeliest and the smallest set that holds top_p

A seed makes the draws repeatable. The model's own part stays in integers; drawing is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How to choose.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_k: draw among so many; 0 for all.
        top_p: draw among the fewest tokens that hold this probability.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature} is not >= 0", fix="0 is greedy")
        if self.top_k < 0:
            raise UserError(f"top-k {self.top_k} is negative", fix="0 takes all tokens")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top-p {self.top_p} is not in (0, 1]", fix="1 takes all tokens")

    def choose(self, logits: NDArray[np.float64], random: np.random.Generator) -> int:
        """The next token after ``logits`` ``[vocabulary]``; of equal ones the first."""
        if self.temperature == 0.0:
            return int(np.argmax(logits))
        order = np.argsort(-logits, kind="stable")
        if self.top_k:
            order = order[: self.top_k]
        weights = np.exp((logits[order] - logits[order[0]]) / self.temperature)
        shares = weights / weights.sum()
        kept = int(np.searchsorted(np.cumsum(shares), self.top_p - 1e-12)) + 1
        shares = shares[:kept] / shares[:kept].sum()
        return int(order[random.choice(len(shares), p=shares)])
