"""Each case alone for a while, so that power and heat are its own; before them, nothing at all.

    {"event": "block", "case": i | None, "start_s", "end_s", "frames", "steady", "marks"}

``marks`` are [seconds of the monotonic clock, frames so far], about four a second: from them come
the frame rates of the first seconds and of the last. A block goes on beyond its time, up to
``until_steady_s``, while the board still heats up: until the hottest sensor has changed by less
than ``SLOPE_C`` in ``WINDOW_S``.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Tuple

from .conditions import Conditions
from .journal import Journal
from .sysfs import Tree

WINDOW_S = 20.0
SLOPE_C = 0.5
_MARK_S = 0.25
_FIXED = ("PMIC",)  # sensors that always say the same


def run_blocks(
    sessions: List[Any], feeds: List[Any], energy: Dict[str, Any], log: Journal, root: str
) -> None:
    """The idle block, then one block a session, in order."""
    heat = Heat(Tree(root))
    log.write("phase", phase="idle")
    started = time.monotonic()
    time.sleep(energy["idle_s"])
    log.write("block", case=None, start_s=started, end_s=time.monotonic(), frames=0, marks=[])
    for index, session in enumerate(sessions):
        log.write("phase", phase=f"energy {index + 1}/{len(sessions)}")
        log.write("block", case=index, **_block(session, feeds, energy, heat))


def _block(session: Any, feeds: List[Any], energy: Dict[str, Any], heat: Heat) -> Dict[str, Any]:
    marks: List[Tuple[float, int]] = []
    heat.forget()
    started = now = due = time.monotonic()
    frames, going, steady = 0, True, None
    while going:
        session.time(feeds[frames % len(feeds)])
        frames += 1
        now = time.monotonic()
        if now >= due:
            marks.append((now, frames))
            due = now + _MARK_S
            steady = heat.steady(now)
            spent = now - started
            enough = steady or steady is None or spent >= energy["until_steady_s"]
            going = spent < energy["seconds"] or not enough
    return {
        "start_s": started,
        "end_s": now,
        "frames": frames,
        "steady": steady,
        "marks": [(started, 0), *marks],
    }


class Heat:
    """The hottest sensor over time."""

    def __init__(self, tree: Tree) -> None:
        self._conditions = Conditions(tree)
        self._seen: List[Tuple[float, float]] = []

    def forget(self) -> None:
        self._seen = []

    def steady(self, now_s: float) -> Optional[bool]:
        """Whether it has stopped changing; None where there is no sensor."""
        zones = self._conditions.read().get("temperature_c", {})
        values = [value for name, value in zones.items() if not name.startswith(_FIXED)]
        if not values:
            return None
        self._seen.append((now_s, max(values)))
        if now_s - self._seen[0][0] < WINDOW_S:
            return False
        self._seen = [(at, value) for at, value in self._seen if now_s - at <= WINDOW_S]
        return max(v for _, v in self._seen) - min(v for _, v in self._seen) < SLOPE_C
