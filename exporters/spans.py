"""Where the time of a frame goes: code marks its steps, and whoever listens adds them up.

    with listening() as spans:            with span("resize"):     # in a reader, a family, …
        sample = samples.sample(0)            image.resize(...)
    spans.seconds                             {"decode": 0.021, "resize": 0.008}

A step inside another one counts for itself alone, so the steps of a frame can be added. Where
nobody listens a mark costs less than a microsecond.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

DECODE = "decode"
"""Files to pixels or points."""
RESIZE = "resize"
"""Pixels to the network's pixels: resize, crop, normalise."""
TABLES = "tables"
"""Geometry of the moment: the tables of a rig."""
COPIES = "copies"
"""Pixels into the array that the network takes, and to and from its device."""
ENGINE = "engine"
"""The network itself."""
POST = "post-processing"
"""Outputs to what the application works with."""

STEPS = (DECODE, RESIZE, TABLES, COPIES, ENGINE, POST)


@dataclass
class Spans:
    """Seconds by step, in the order in which they ended first."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _inner_s: list[float] = field(default_factory=list)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        self._inner_s.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[name] += spent - self._inner_s.pop()
            if self._inner_s:
                self._inner_s[-1] += spent


_listener: ContextVar[Spans | None] = ContextVar("edgeport_spans", default=None)


@contextmanager
def listening() -> Iterator[Spans]:
    """Collect the steps of this thread until the block ends."""
    spans = Spans()
    token = _listener.set(spans)
    try:
        yield spans
    finally:
        _listener.reset(token)


def is_heard() -> bool:
    """Whether somebody listens: a device that works on its own is then waited for at each step."""
    return _listener.get() is not None


@contextmanager
def span(name: str) -> Iterator[None]:
    """Mark a step."""
    spans = _listener.get()
    if spans is None:
        yield
        return
    with spans.measure(name):
        yield
