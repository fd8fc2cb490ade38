"""Splits: sizes, whole scenes, no sample in two sets; against brute force."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.samples.splitting import Share, assign, parse_split, sizes_of
from exporters.errors import UserError

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=7)
NEEDS = st.lists(st.integers(1, 8), min_size=1, max_size=3)


def groups_of(sizes: list[int]) -> list[str]:
    """Scene of every sample, scenes of these sizes one after the other."""
    return [f"scene-{number}" for number, size in enumerate(sizes) for _ in range(size)]


def possible(sizes: list[int], needs: list[int]) -> bool:
    """Whether any way to deal whole scenes fills all sets: all ways are tried."""
    for ways in product(range(len(needs)), repeat=len(sizes)):
        got = Counter[int]()
        for size, way in zip(sizes, ways, strict=True):
            got[way] += size
        if all(got[i] >= need for i, need in enumerate(needs)):
            return True
    return False


def test_what_can_be_asked_for() -> None:
    assert parse_split("calibration=16, validation=0.25,held-out=20%,other=rest") == (
        Share("calibration", count=16),
        Share("validation", fraction=0.25),
        Share("held-out", fraction=0.2),
        Share("other"),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not NAME=SIZE"),
        ("16", "'16' is not NAME=SIZE"),
        ("../x=16", "is not NAME=SIZE"),
        ("a=0", "'0' is no size of the set a"),
        ("a=1.5", "'1.5' is no size"),
        ("a=120%", "'120%' is no size"),
        ("a=-3", "'-3' is no size"),
        ("a=many", "'many' is no size"),
        ("a=3,a=4", "names 'a' twice"),
        ("a=rest,b=rest", "'rest' to more than one set"),
        ("a=0.7,b=0.7", "are more than 1 together"),
    ],
)
def test_what_cannot(text: str, words: str) -> None:
    with pytest.raises(UserError, match="--split calibration=16,validation=8,held-out=8") as caught:
        parse_split(text)
    assert words in caught.value.message


@given(SIZES, NEEDS, st.integers(0, 3))
def test_sets_are_filled_with_whole_scenes_wherever_that_can_be(
    sizes: list[int], needs: list[int], seed: int
) -> None:
    groups = groups_of(sizes)
    shares = [Share(f"set-{i}", count=need) for i, need in enumerate(needs)]
    if not possible(sizes, needs):
        with pytest.raises(UserError, match=r"without cutting a scene|the source holds"):
            assign(groups, shares, seed)
        return
    pools = assign(groups, shares, seed)
    taken = [index for pool in pools.values() for index in pool.indices]
    assert len(taken) == len(set(taken))
    for need, pool in zip(needs, pools.values(), strict=True):
        assert pool.count == need <= len(pool.indices)
    scenes = [{groups[index] for index in pool.indices} for pool in pools.values()]
    assert sum(map(len, scenes)) == len(set().union(*scenes))


@given(st.integers(6, 200), st.tuples(*[st.integers(1, 8)] * 3), st.integers(0, 3))
def test_fractions_of_single_samples_are_exact_to_one(
    total: int, parts: tuple[int, int, int], seed: int
) -> None:
    whole = sum(parts)
    shares = [Share(str(i), fraction=part / whole) for i, part in enumerate(parts)]
    groups = [str(i) for i in range(total)]
    if min(parts) / whole * total < 1:
        return  # every set gets one, which may be more than its fraction
    sizes = sizes_of(assign(groups, shares, seed))
    assert sum(sizes.values()) == total
    for i, part in enumerate(parts):
        assert abs(sizes[str(i)] - part / whole * total) < 1


@given(SIZES, st.integers(0, 3))
def test_the_rest_is_everything_else(sizes: list[int], seed: int) -> None:
    groups = groups_of(sizes)
    if len(sizes) < 2:
        return
    pools = assign(groups, [Share("some", count=1), Share("other")], seed)
    assert {i for pool in pools.values() for i in pool.indices} == set(range(len(groups)))


def test_the_seed_decides_and_nothing_else() -> None:
    groups = [str(i) for i in range(50)]
    shares = parse_split("a=10,b=10")
    assert assign(groups, shares, 1) == assign(groups, shares, 1)
    assert assign(groups, shares, 1) != assign(groups, shares, 2)


def test_frames_far_apart_and_all_scenes_come_first() -> None:
    groups = groups_of([40] * 10)
    pools = assign(groups, parse_split("calibration=16,validation=8"), 0)
    first = pools["calibration"].indices[:16]
    by_scene: dict[str, list[int]] = {}
    for index in sorted(first):
        by_scene.setdefault(groups[index], []).append(index)
    # two thirds of ten scenes, two or three frames of 40 from each, half a scene apart at best
    assert len(by_scene) in (6, 7)
    assert all(len(found) in (2, 3) for found in by_scene.values())
    assert all(b - a >= 10 for found in by_scene.values() for a, b in pairwise(found))


def test_refusals_say_what_there_is() -> None:
    with pytest.raises(
        UserError, match=r"asks for 30 samples, the source holds 20\. Ask for fewer"
    ):
        assign([str(i) for i in range(20)], parse_split("a=20,b=10"), 0)
    with pytest.raises(
        UserError, match="2 scenes with 12, 8 samples cannot be split into sets of 4"
    ):
        assign(groups_of([12, 8]), parse_split("a=4,b=4,c=4"), 0)
