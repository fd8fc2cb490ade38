"""Weights rounded so that errors cancel in what the matrix gives (GPTQ, arXiv:2210.17323).

Row after row of a matrix is rounded, and what that did wrong is made good by the rows that are not
rounded yet, as the inputs' second moments H = X^T X say:

    w[j:] -= (w[i] - q[i]) / U[i, i]  U[i, j:],      U^T U = H^-1,  U upper triangular

Rows come in the order of their inputs' energy. Activations are rounded too; that adds noise of one
variance to all channels of a token, (peak / levels)^2 / 12, and it is added to H's diagonal.

The first tokens of a text, which smoothing leaves out, have to be in H: every later token attends
to them, and errors in directions that H has never seen are free. Without them 6 bits had three
times the perplexity. Their noise, of massive activations, stays out.

Where a column's scale ends is chosen before: the share of its peak with the least rounding error,
weighted by H's diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from exporters.illm.source import Array
from exporters.illm.weights import LEVELS, Matrix, clipped_peak, dyadic_scales

_DAMPING = 0.01  # of the mean of H's diagonal: a text has less variety than the world
_BLOCK = 64
_SHARES = np.arange(20, 9, -1) / 20

_READ_BY = {"attention_in": "qkv", "attention_out": "output", "ffn_in": "gate_up", "gated": "down"}


@dataclass
class Moments:
    """Second moments of what a layer's matrices read; takes the place of `Peaks` in `run_layer`.

    Attributes:
        levels: of activations, whose rounding is noise.
        by_matrix: float64 ``[in, in]``, sums over tokens.
    """

    levels: int
    by_matrix: dict[str, Tensor] = field(default_factory=dict)
    residual: float = 0.0

    def see(self, name: str, tokens: Tensor, axes: tuple[int, ...], skip: int) -> None:
        """Take in ``tokens`` ``[tokens, in]``; what no matrix reads is passed over."""
        del axes
        matrix = _READ_BY.get(name)
        if matrix is None:
            return
        noise = (tokens[skip:].abs().amax(-1) / self.levels).square().sum() / 12
        moments = (tokens.T @ tokens).double()
        moments.diagonal().add_(float(noise))
        self.by_matrix[matrix] = self.by_matrix.get(matrix, 0) + moments


def round_against(moments: Tensor, weight: Array, bits: int, clip: Array | None = None) -> Matrix:
    """``weight`` ``[in, out]`` in integers.

    Args:
        moments: float64 ``[in, in]`` of its inputs.
        clip: as for `exporters.illm.weights.quantize_columns`; the best share if None.
    """
    levels = LEVELS[bits]
    if clip is None:
        clip = best_clip(weight, bits, moments.diagonal().numpy())
    mantissa, exponent = dyadic_scales(weight.shape[0], clipped_peak(weight, clip) / levels)
    scale = torch.from_numpy(mantissa * 2.0**-exponent)
    order = torch.argsort(moments.diagonal(), descending=True)
    w = torch.from_numpy(weight.astype(np.float64))[order]
    inverse = _inverse_root(moments[order][:, order])
    steps = torch.empty_like(w)
    for start in range(0, len(w), _BLOCK):
        end = min(start + _BLOCK, len(w))
        rows, root = w[start:end], inverse[start:end, start:end]
        errors = torch.empty_like(rows)
        for i in range(end - start):
            steps[start + i] = (rows[i] / scale).round().clamp(-levels, levels)
            errors[i] = (rows[i] - steps[start + i] * scale) / root[i, i]
            rows[i + 1 :] -= root[i, i + 1 :, None] * errors[i]
        w[end:] -= inverse[start:end, end:].T @ errors
    values = torch.empty_like(steps)
    values[order] = steps
    return Matrix(values.numpy().astype(np.int8), mantissa.astype(np.int64), exponent)


def best_clip(weight: Array, bits: int, energies: Array) -> Array:
    """``[out]``: the share of each column's peak with the least error of rounding to nearest.

    Args:
        energies: ``[in]``, what a row's error weighs.
    """
    levels, peak = LEVELS[bits], clipped_peak(weight, None)
    best, least = np.ones(len(peak)), np.full(len(peak), np.inf)
    for share in _SHARES:
        scale = peak * share / levels
        rounded = np.clip(np.round(weight / scale), -levels, levels) * scale
        error = energies @ np.square(rounded - weight)
        better = error < least
        best[better], least[better] = share, error[better]
    return best


def _inverse_root(moments: Tensor) -> Tensor:
    """Upper triangular U with U^T U = (H + damping)^-1."""
    damped = moments.clone()
    damped.diagonal().add_(_DAMPING * float(moments.diagonal().mean()) + 1e-12)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return root
