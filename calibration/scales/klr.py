"""KL-R: an activation threshold by divergence that survives ReLU and re-parameterised networks.

TensorRT's entropy search collapses where one histogram bin towers over the rest (zeros after
ReLU, a constant background): only a tiny range isolates it. KL-R keeps the idea, a threshold by
likeness of distributions instead of by error, and repairs the search:

    D(i) = sum over kept bins of P ln(P / Q_i)  +  8 * (S - S_i) / S,       T = max * i / bins

P is the de-spiked histogram of the non-zero magnitudes, S its mass and S_i the mass of its first
i bins; Q_i is what the real quantizer emits for range i: true rounding, level 0 included, the
clipped tail in the last level, each level's mass shared over its non-empty bins. At least 99.9 %
of the mass is kept. A reconstruction of the improved KL of CFWS (Yang et al., arXiv 2312.10588),
whose own search is not public; the constants are measured.

With p_l the mass of P in level l, m_l that mass with the clipped tail, and n_l its non-empty bins,
the sum is sum of P ln P - sum over levels of p_l ln(m_l / n_l): prefix sums give it for every i in
as many operations as there are levels.

Never use it for graph inputs: there large values are the signal, take min-max.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.scales.prefix_sums import Floats, prefix_sum, x_log, x_log_y
from exporters.errors import UserError

BINS = 4096
MIN_COVERAGE = 0.999
CLIPPED_MASS_WEIGHT = 8.0
CANDIDATE_STRIDE = 16
SPIKE_RATIO = 4.0

Counts = NDArray[Any]


def levels_of(bits: int, *, signed: bool) -> int:
    """Levels above zero: 255 of unsigned and 127 of symmetric signed 8 bit."""
    return int(2 ** (bits - 1) - 1 if signed else 2**bits - 1)


def klr_threshold(counts: Counts, maximum: float, levels: int) -> float:
    """The largest magnitude to represent; everything above is clipped to it.

    Args:
        counts: ``[bins]`` histogram of ``|x|`` over ``(0, maximum]`` with equal bins (4096 is
            what the constants were measured with), exact zeros left out. Take the tensor as the
            quantizer sees it, so after ReLU.
        maximum: upper edge of the last bin, in units of the tensor.
        levels: non-zero magnitudes of the quantizer, see `levels_of`.

    Returns:
        A threshold in ``(0, maximum]``; ``maximum`` for an empty histogram.

    Raises:
        UserError: negative or non-finite counts, or a range that is not positive.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise UserError("KL-R needs a one-dimensional histogram of finite counts, none negative")
    if not (np.isfinite(maximum) and maximum > 0 and levels > 0):
        raise UserError(f"KL-R needs a positive range and levels, got {maximum} and {levels}")
    smooth = despiked(counts)
    cumulative = prefix_sum(smooth)
    if cumulative[-1] == 0:
        return float(maximum)
    candidates = _candidates(cumulative, levels)
    best = int(np.argmin(_divergences(smooth, candidates, levels)))
    return float(maximum * candidates[best] / len(counts))


def despiked(counts: Counts) -> NDArray[np.float64]:
    """Replace every bin above four times the mean of its 2 + 2 neighbours by that mean.

    Neighbours beyond the left edge are mirrored. The last bin only counts as its own neighbour:
    a saturated activation (ReLU6) puts real mass there, which must not look like a glitch.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if len(counts) < 3:
        return np.asarray(counts.copy())
    padded = np.concatenate((counts[2:0:-1], counts, counts[[-1, -1]]))
    neighbours = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    usual = np.maximum(neighbours, 1.0)
    return np.asarray(np.where(counts > SPIKE_RATIO * usual, usual, counts))


def _candidates(cumulative: Floats, levels: int) -> NDArray[np.int64]:
    """Numbers of kept bins to try: enough for one bin a level and for the coverage; then all."""
    bins = len(cumulative) - 1
    covered = int(np.searchsorted(cumulative / cumulative[-1], MIN_COVERAGE))
    return np.array([*range(max(levels, covered), bins, CANDIDATE_STRIDE), bins], np.int64)


def _divergences(counts: Floats, candidates: NDArray[np.int64], levels: int) -> Floats:
    """D(i) for every candidate."""
    kept = candidates[:, None]
    # bin j becomes level round((j + 1/2) * levels / kept), half up, in integers so that every
    # machine agrees; level l > 0 then starts at bin ceil(((2 l - 1) * kept - levels) / (2 levels))
    inner = -((levels - (2 * np.arange(1, levels + 1) - 1) * kept) // (2 * levels))
    edges = np.hstack([np.zeros_like(kept), np.clip(inner, 0, kept), kept])
    masses, total = prefix_sum(counts), float(counts.sum())
    inside = np.diff(masses[edges], axis=1)
    sharers = np.diff(prefix_sum(counts > 0)[edges], axis=1)
    clipped = masses[-1] - masses[candidates]
    shared = inside.copy()
    shared[:, -1] += clipped
    emitted = x_log_y(np.where(sharers > 0, inside, 0.0), shared / np.maximum(sharers, 1.0))
    divergence = prefix_sum(x_log(counts))[candidates] - emitted.sum(axis=1)
    return np.asarray((divergence + CLIPPED_MASS_WEIGHT * clipped) / total)
