"""What is learned, from how much text, for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass

from exporters.errors import UserError, did_you_mean
from exporters.illm import smoothing
from exporters.illm.weights import LEVELS

GATE = "gate"
PAIRS = (*smoothing.PAIRS, GATE)
OBJECTIVES = ("relative", "mse")
ROUNDINGS = ("nearest", "gptq")


@dataclass(frozen=True)
class FsbrPlan:
    """How factors are learned.

    Attributes:
        without: smoothing pairs to leave out, for ablations: `attention`, `value`, `key`, `ffn`,
            `down` or `gate`.
        rounding: of weights, which learning reckons with: ``gptq`` or ``nearest``, as the export's.
        clipping: learn where each column's scale ends, too; with ``nearest`` only, GPTQ has ends
            of its own.
        swiglu_bits: bits of gate and up inside the gated activation. The paper has 8; the integer
            decoder keeps 18, which is None here, and then the pair `gate` changes no number and is
            left out.
        objective: ``relative``: squared error of each token in units of the token's own energy,
            which is what the next norm sees; ``mse``: the paper's, where a few tokens with massive
            activations outweigh all others.
        augment: add the error against the float block fed with the student's inputs.
        epochs: passes over the text, for every layer.
        pieces, tokens: how much text: so many pieces of so many tokens, each one step.
        rate, clip_rate: of AdamW, for logarithms of factors and for clipping; falling to zero along
            a cosine.
        seed: of the order of the pieces.
    """

    without: tuple[str, ...] = ()
    rounding: str = "gptq"
    clipping: bool = True
    swiglu_bits: int | None = None
    objective: str = "relative"
    augment: bool = False
    epochs: int = 10
    pieces: int = 32
    tokens: int = 256
    rate: float = 5e-3
    clip_rate: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        for pair in self.without:
            if pair not in PAIRS:
                raise UserError(f"unknown smoothing pair {pair!r}", fix=did_you_mean(pair, PAIRS))
        if self.objective not in OBJECTIVES:
            raise UserError(
                f"--objective is {self.objective!r}", fix=did_you_mean(self.objective, OBJECTIVES)
            )
        if self.rounding not in ROUNDINGS:
            raise UserError(
                f"--rounding is {self.rounding!r}", fix=did_you_mean(self.rounding, ROUNDINGS)
            )
        if self.swiglu_bits not in (None, *LEVELS):
            raise UserError(f"--swiglu-bits is {self.swiglu_bits}", fix="Give 8, 6 or 4")
        for name, least in (("epochs", 1), ("pieces", 2), ("tokens", 2)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} is {getattr(self, name)}", fix=f"Give {least} or more")
        for rate in (self.rate, self.clip_rate):
            if not (math.isfinite(rate) and rate > 0):
                raise UserError(f"learning rate {rate} is not positive", fix="5e-3 is usual")

    @property
    def learns_clipping(self) -> bool:
        return self.clipping and self.rounding == "nearest"

    def pairs(self, *, mixed: bool = False) -> tuple[str, ...]:
        """Pairs that are learned.

        Args:
            mixed: rows before the down matrix are, and have no channels of their own to smooth.
        """
        idle = (*(() if self.swiglu_bits else (GATE,)), *(("down",) if mixed else ()))
        return tuple(pair for pair in PAIRS if pair not in (*self.without, *idle))
