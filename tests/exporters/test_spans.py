from __future__ import annotations

import threading
import time

import pytest

from exporters.spans import is_heard, listening, span


def test_steps_are_added_up_and_an_inner_one_counts_for_itself_alone() -> None:
    with listening() as spans:
        for _ in range(2):
            with span("outer"):
                time.sleep(0.01)
                with span("inner"):
                    time.sleep(0.03)
    # sleep never returns early, and a busy machine may hold any step up
    assert spans.seconds["inner"] >= 0.06
    assert spans.seconds["outer"] >= 0.02
    assert list(spans.seconds) == ["inner", "outer"]


def test_the_steps_of_a_frame_add_up_to_its_wall_clock_time() -> None:
    started = time.perf_counter()
    with listening() as spans, span("all"):
        for index in range(50):
            with span(str(index % 3)), span("deep"):
                pass
    wall = time.perf_counter() - started
    assert 0 < sum(spans.seconds.values()) <= wall
    assert min(spans.seconds.values()) >= 0


def test_nobody_listens_nothing_is_kept() -> None:
    assert not is_heard()
    with span("unheard"):
        pass
    with listening() as spans:
        assert is_heard()
    with span("later"):
        pass
    assert not spans.seconds


def test_a_step_that_fails_is_counted_and_its_error_goes_on() -> None:
    with listening() as spans, pytest.raises(KeyError), span("fails"):
        raise KeyError
    assert list(spans.seconds) == ["fails"]


def test_other_threads_are_not_heard() -> None:
    def work() -> None:
        with span("elsewhere"):
            pass

    with listening() as spans:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not spans.seconds
