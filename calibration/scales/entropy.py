"""Entropy calibration as TensorRT's published toolkit defines it, without its inner loops.

Over the histogram ``h`` of magnitudes, first bin replaced by the second (zeros after ReLU would
drown the rest), for every ``i`` from 128 bins to all of them:

    P = h[0:i], with the mass beyond added to P[i-1]
    Q = h[0:i] cut into L equal groups; the mass of a group shared equally by its non-empty bins
    D(i) = KL(P / sum P  ||  Q / sum Q),  infinite where P > 0 and Q = 0

The last ``i`` with the least D wins; the threshold is the upper edge of bin ``i - 1``. L is 128 for
signed and 256 for unsigned integers. (pytorch-quantization ``calib/histogram.py``; Migacz, 8-bit
Inference with TensorRT, GTC 2017.) It is here for comparison: on tensors with a constant background
it collapses, which the methods of later versions repair.

Over ``h[0:i]`` let A = sum h ln h and G = sum over groups of m ln(m / n), m a group's mass and n
its non-empty bins. With S the total, S_i the kept mass, t = S - S_i the tail and b = h[i-1]:

    D(i) = [ A - b ln b + (b + t) ln(b + t) - G - t ln(m_last / n_last) ] / S + ln(S_i / S)

so prefix sums make every candidate cost L operations instead of i.
"""

from __future__ import annotations

import numpy as np

from calibration.scales.prefix_sums import Floats, prefix_sum, x_log, x_log_y

FIRST_CANDIDATE = 128
_CHUNK = 512


def entropy_threshold(counts: Floats, *, levels: int) -> int:
    """How many leading bins to keep.

    Args:
        counts: ``[bins]`` histogram of ``|x|``; empty bins at the end are cut off first.
        levels: L above.

    Returns:
        Number of bins; the threshold is that times the bin width. All of them where the histogram
        is shorter than the first candidate or no candidate has a finite divergence.
    """
    filled = np.flatnonzero(counts)
    if not len(filled):
        return 0
    used = np.asarray(counts[: filled[-1] + 1], dtype=np.float64).copy()
    if len(used) <= FIRST_CANDIDATE:
        return len(used)
    used[0] = used[1]
    divergences = _divergences(used, levels)
    if not np.isfinite(divergences).any():
        return len(used)
    last_best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    return FIRST_CANDIDATE + last_best


def _divergences(counts: Floats, levels: int) -> Floats:
    """D(i) for i = FIRST_CANDIDATE … bins."""
    masses = prefix_sum(counts)
    sizes = prefix_sum(counts > 0)
    entropies = prefix_sum(x_log(counts))
    total = masses[-1]
    result = np.empty(len(counts) + 1 - FIRST_CANDIDATE)
    for start in range(0, len(result), _CHUNK):
        kept = np.arange(start, min(start + _CHUNK, len(result))) + FIRST_CANDIDATE
        # group g of i bins holds the bins j with j * L // i == g, so it starts at ceil(g * i / L)
        edges = -(-kept[:, None] * np.arange(levels + 1) // levels)
        mass = np.diff(masses[edges], axis=1)
        size = np.diff(sizes[edges], axis=1)
        group_entropy = x_log_y(mass, mass / np.maximum(size, 1)).sum(axis=1)
        tail = total - masses[kept]
        last = counts[kept - 1]
        folded = x_log(last + tail) - x_log(last)
        last_group = (kept - 1) * levels // kept
        shared = np.take_along_axis(mass / np.maximum(size, 1), last_group[:, None], 1)[:, 0]
        cross = group_entropy + x_log_y(tail, shared)
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = (entropies[kept] + folded - cross) / total + np.log(masses[kept] / total)
        impossible = ((last == 0) & (tail > 0)) | (masses[kept] == 0)
        result[start : start + len(kept)] = np.where(impossible, np.inf, divergence)
    return result
