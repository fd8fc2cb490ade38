"""From a good assignment of scales to a better one: one tensor after the other, by the outputs.

Noise adds up over a network, and a few tensors make most of it. Those whose proposals differ most
come first; for each the proposals of all contestants are tried, and the best stays. What is gained
has to show on samples that the search has not seen as well.

This is coordinate descent, one round of it: a second one gained 0.2 dB on FlashOcc where the first
had gained 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.scales.auto import Choice
from calibration.scales.methods import Scale
from calibration.scales.trial import Trial

if TYPE_CHECKING:
    import onnx_ir as ir

Assign = Callable[[list[Choice]], dict["ir.Value", Scale]]
Progress = Callable[[str, int, int], None]

LOOKED_AT = 4
"""Samples that one proposal is tried on; the others judge the result."""

GAIN_DB = 0.02
APART = 0.1
"""Proposals within a tenth of each other count as one."""


@dataclass(frozen=True)
class Descent:
    """Where the search ended.

    Attributes:
        changed: groups of tensors that got another scale.
        fidelity_db: of the outputs, over all samples of the trial.
    """

    choices: list[Choice]
    changed: int
    fidelity_db: float


def descend(
    trial: Trial,
    start: list[Choice],
    others: Sequence[list[Choice]],
    assign: Assign,
    *,
    runs: int,
    progress: Progress | None = None,
) -> Descent:
    """Search from ``start`` with the choices of ``others`` as proposals.

    Args:
        assign: from one choice a group to a scale for every tensor.
        runs: of the network on one sample that may be spent, judging included.
    """
    before = trial.fidelity_db(assign(start))
    looked_at = min(LOOKED_AT, len(trial))
    tries = [
        (index, proposal)
        for index, proposals in _by_spread(start, others)
        for proposal in proposals
    ][: max((runs - 2 * len(trial)) // looked_at, 0)]
    best, choices = trial.fidelity_db(assign(start), looked_at), list(start)
    for done, (index, proposal) in enumerate(tries):
        candidate = [*choices[:index], proposal, *choices[index + 1 :]]
        found = trial.fidelity_db(assign(candidate), looked_at)
        if found > best + GAIN_DB:
            best, choices = found, candidate
        if progress:
            progress("scales, refined", done + 1, len(tries))
    after = trial.fidelity_db(assign(choices)) if tries else before
    if after <= before:
        return Descent(start, 0, before)
    changed = sum(a is not b for a, b in zip(choices, start, strict=True))
    return Descent(choices, changed, after)


def _by_spread(
    start: list[Choice], others: Sequence[list[Choice]]
) -> list[tuple[int, list[Choice]]]:
    """Distinct proposals of every group, those that differ most first."""
    found: list[tuple[float, int, list[Choice]]] = []
    for index, first in enumerate(start):
        kept = [first]
        for choice in (other[index] for other in others):
            if not any(_alike(choice.scale, one.scale) for one in kept):
                kept.append(choice)
        if len(kept) > 1:
            steps = [one.scale.scale for one in kept]
            found.append((-max(steps) / min(steps), index, kept[1:]))
    return [(index, proposals) for _, index, proposals in sorted(found, key=lambda x: x[:2])]


def _alike(a: Scale, b: Scale) -> bool:
    near = abs(a.zero_point - b.zero_point) <= APART * 255
    return near and abs(a.scale - b.scale) <= APART * b.scale
