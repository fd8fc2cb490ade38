"""Speeds from places, by hand as nuScenes' devkit has them."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.samples.tracks import Tracks

SECOND = 1_000_000


def test_speed_between_neighbours_and_at_the_ends() -> None:
    places = [(0, (0.0, 0.0, 5.0)), (SECOND // 2, (1.0, 0.0, 5.0)), (SECOND, (4.0, 2.0, 5.0))]
    tracks = Tracks(("car", time_us, place) for time_us, place in reversed(places))
    for time_us, expected in ((0, (2, 0)), (SECOND // 2, (4, 2)), (SECOND, (6, 4))):
        np.testing.assert_allclose(tracks.velocity("car", time_us), expected)


def test_what_is_seen_once_has_no_speed() -> None:
    tracks = Tracks([("car", 0, (0, 0, 0)), ("bus", SECOND, (0, 0, 0))])
    assert tracks.velocity("car", 0) is None


@pytest.mark.parametrize(
    ("times_s", "at_s", "known"),
    [((0, 1.5), 0, True), ((0, 1.6), 0, False), ((0, 1.4, 2.9), 1.4, True),
     ((0, 1.6, 2.9), 1.6, True), ((0, 1.6, 3.1), 1.6, False)],
)  # fmt: skip
def test_gaps_are_not_bridged(times_s: tuple[float, ...], at_s: float, known: bool) -> None:
    """1.5 s with a neighbour on one side, 3 s with one on either."""
    tracks = Tracks(("car", round(1e6 * t), (t, 0.0, 0.0)) for t in times_s)
    found = tracks.velocity("car", round(1e6 * at_s))
    assert (found is not None) == known
    if found is not None:
        np.testing.assert_allclose(found, (1, 0))
