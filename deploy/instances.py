"""Instances of one grid under the numbers of another, so that one thing has one colour.

Two instances are the same where their intersection over union is above one half. At most one pair
of an instance can be (Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4.1), so no
assignment has to be solved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SAME = 0.5  # IoU above which two instances are one thing


def numbered_as(reference: Array, instances: Array) -> NDArray[np.int64]:
    """``instances`` where those that ``reference`` has too carry its number.

    Others get new numbers above all of the reference's, in their own order.

    Args:
        reference, instances: integers of one shape, 0 for none.
    """
    known, ours = reference.astype(np.int64).ravel(), instances.astype(np.int64).ravel()
    sizes, known_sizes = np.bincount(ours), np.bincount(known)
    both = (ours > 0) & (known > 0)
    keys, overlaps = np.unique(ours[both] * len(known_sizes) + known[both], return_counts=True)
    mine, theirs = np.divmod(keys, len(known_sizes))
    same = overlaps > _SAME * (sizes[mine] + known_sizes[theirs] - overlaps)
    numbers = np.zeros(len(sizes), np.int64)
    numbers[mine[same]] = theirs[same]
    new = np.flatnonzero((sizes > 0) & (numbers == 0))
    new = new[new > 0]
    numbers[new] = len(known_sizes) + np.arange(len(new))
    found: NDArray[np.int64] = numbers[ours].reshape(instances.shape)
    return found
