"""Integer square root by Newton's iteration.

From x0 = 2^(log2(n)/2 + 1), which lies between sqrt(n) and its double, six steps
x <- (x + n/x) / 2 reach floor(sqrt n) or one above it for every n below 2^62: a relative error e
becomes e^2 / (2 + 2e), so 1 becomes 0.25, 0.025, 3e-4, 5e-8, 1e-15.
"""

from __future__ import annotations

from exporters.ops.algebra import Value, operator
from exporters.ops.primitives import log2_floor, maximum, power_of_two

_STEPS = 6


@operator("ISqrt")
def isqrt(n: Value) -> Value:
    """Exactly floor(sqrt(n)); int64 in 0 .. 2^62 - 1."""
    root = power_of_two(log2_floor(maximum(n, 1)).div(2) + 1)
    for _ in range(_STEPS):
        root = (root + n.div(maximum(root, 1))).div(2)
    return root - (root * root > n).cast("int64")
