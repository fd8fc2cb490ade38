"""Warming up until it makes no difference any more.

After the rounds that were asked for, rounds go on until for every case the median of the last
``WINDOW`` runs and that of the ``WINDOW`` before differ by at most ``TOLERANCE``; at most
``settle_s`` seconds. ``runtimes.timing.settled`` is the same rule for the local benchmark.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any, Dict, List, Sequence

WINDOW = 10
TOLERANCE = 0.02


def warm_up(sessions: List[Any], feeds: List[Any], plan: Dict[str, Any]) -> Dict[str, Any]:
    """Run what is thrown away; how many ``rounds`` and whether they ``settled``."""
    seen: List[List[float]] = [[] for _ in sessions]
    settle_s = plan.get("settle_s", 0.0)
    started, rounds = time.monotonic(), 0
    while rounds < plan["warmup"] or (not settled(seen) and time.monotonic() - started < settle_s):
        for session, spent in zip(sessions, seen):
            spent.append(session.time(feeds[rounds % len(feeds)])["wall_ms"])
        rounds += 1
    return {"rounds": rounds, "settled": settled(seen) if settle_s else None}


def settled(series: Sequence[Sequence[float]]) -> bool:
    """Whether every series has stopped drifting."""
    return all(
        len(spent) >= 2 * WINDOW
        and abs(median(spent[-WINDOW:]) / median(spent[-2 * WINDOW : -WINDOW]) - 1) <= TOLERANCE
        for spent in series
    )
