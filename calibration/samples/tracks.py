"""How fast annotated things move: their places at the key frames before and after, by the time.

    v = (place after - place before) / (time after - time before)

At the ends of a track the key frame itself stands for the one that is missing. Nothing is known of
a thing that is seen once, or across more than 1.5 s a side (nuScenes' devkit, ``box_velocity``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_LONGEST_S = 1.5
"""Between an annotation and its neighbour on one side."""


class Tracks:
    """Where things were, in the world.

    Args:
        seen: of every annotation the thing, microseconds, and x, y, z in metres.
    """

    def __init__(self, seen: Iterable[tuple[str, int, Sequence[float]]]) -> None:
        self._places: dict[str, list[tuple[int, tuple[float, float]]]] = defaultdict(list)
        for thing, time_us, (x, y, *_) in seen:
            self._places[thing].append((time_us, (x, y)))
        for track in self._places.values():
            track.sort()

    def velocity(self, thing: str, time_us: int) -> NDArray[np.float64] | None:
        """Metres a second in x and y of the world; None where it is not known."""
        track = self._places[thing]
        at = bisect_left(track, (time_us,))
        first, last = track[max(at - 1, 0)], track[min(at + 1, len(track) - 1)]
        seconds = 1e-6 * (last[0] - first[0])
        sides = (at > 0) + (at < len(track) - 1)
        if not sides or seconds > sides * _LONGEST_S:
            return None
        return np.subtract(last[1], first[1]) / seconds
