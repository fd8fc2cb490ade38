"""How much each channel is rescaled, from the largest values that it was seen to take.

    s[c] = (r[c] / r_max) ** e            values are divided by s, never beyond the tensor's range

All channels of a tensor share one scale, so a channel with a small range r[c] has few of the
levels. Exponent 1 would give it all of them, and leave the weights behind it with all of the
difference; 0 leaves things as they are. (Cross-layer equalization, Nagel et al., arXiv:1906.04721,
takes 1/2 and looks at weights; with one weight scale an output channel those need no equalizing,
activations do.) Tensors that have to share a factor, as along a residual stream, meet in the
geometric mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.equalization.channels import Channels, Variable, slices

if TYPE_CHECKING:
    import onnx_ir as ir

Factors = NDArray[np.float64]

EXPONENT = 0.75
INTEGER_EXPONENT = 0.4
"""Where the results of layers are rounded before their activation, halves of a split one above all:
what a ReLU discards of a channel is stretched with the channel, and takes levels from the others.
Chosen on one network, that of ``benchmarks.repvgg_a1``."""

SMALLEST_RANGE = 2.0**-10
"""Of a channel, relative to its tensor's: what was silent on these samples may speak on others."""


def choose_factors(
    channels: Channels,
    ranges: Mapping[ir.Value, NDArray[Any]],
    exponent: float = EXPONENT,
) -> dict[Variable, Factors]:
    """Factors in (0, 1] of every free variable that some tensor of ``ranges`` holds.

    Args:
        ranges: largest absolute value of each channel, ``[channels]``.
        exponent: 0 changes nothing, 1 makes all ranges equal.
    """
    wanted: dict[Variable, list[Factors]] = {}
    for value, seen in ranges.items():
        largest = float(seen.max())
        if largest <= 0.0:
            continue
        relative = np.maximum(seen.astype(np.float64) / largest, SMALLEST_RANGE)
        segments = channels.of[value]
        for segment, part in zip(segments, slices(segments), strict=True):
            if not segment.root.fixed:
                wanted.setdefault(segment.root, []).append(exponent * np.log(relative[part]))
    return {variable: np.exp(np.mean(logs, axis=0)) for variable, logs in wanted.items()}


def by_tensor(channels: Channels, chosen: Mapping[Variable, Factors]) -> dict[str, Factors]:
    """Factors of all channels of every tensor that has any, by name."""
    found = {}
    for value, segments in channels.of.items():
        if any(segment.root in chosen for segment in segments):
            parts = [chosen.get(s.root, np.ones(s.size)) for s in segments]
            found[value.name or ""] = np.concatenate(parts)
    return found
