"""Which samples go into which set: disjoint, seeded, and never one scene in two sets.

    shares = parse_split("calibration=16,validation=8,held-out=8")
    pools = assign(samples.groups, shares, seed=0)

Neighbouring frames of one drive are nearly the same picture, so a scene is given to one set as a
whole. Scenes are dealt largest first, each to the set that is farthest from its target (the
longest-processing-time rule, Graham 1969); where that leaves a set short, every possibility is
tried. Of a scene that holds more than is needed, frames far apart are taken first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from exporters.errors import UserError

REST = "rest"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_STATES = 20_000
"""Largest number of states that the search for whole scenes goes through."""

_USE = "Write for example --split calibration=16,validation=8,held-out=8, or 0.6, 20% or 'rest'"


@dataclass(frozen=True)
class Share:
    """What one set shall get: a number of samples, a fraction of all, or what is left (None)."""

    name: str
    count: int | None = None
    fraction: float | None = None


@dataclass(frozen=True)
class Pool:
    """What one set may take.

    Attributes:
        count: how many it takes; None for all.
        indices: in order of preference; those beyond ``count`` stand in for duplicates.
    """

    count: int | None
    indices: tuple[int, ...]


def parse_split(text: str) -> tuple[Share, ...]:
    """``NAME=16``, ``NAME=0.5``, ``NAME=50%`` and one ``NAME=rest``, with commas between.

    Raises:
        UserError: none of these, a name twice, or more than everything.
    """
    shares = tuple(_share(item.strip()) for item in text.split(","))
    names = [share.name for share in shares]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--split names {twice!r} twice", fix=_USE)
    if sum(share.count is None and share.fraction is None for share in shares) > 1:
        raise UserError("--split gives 'rest' to more than one set", fix=_USE)
    if sum(share.fraction or 0.0 for share in shares) > 1 + 1e-9:
        raise UserError("the fractions of --split are more than 1 together", fix=_USE)
    return shares


def _share(text: str) -> Share:
    name, separator, value = text.partition("=")
    if not separator or not _NAME.fullmatch(name):
        raise UserError(f"--split: {text!r} is not NAME=SIZE", fix=_USE)
    if value == REST:
        return Share(name)
    if re.fullmatch(r"\d+", value) and int(value) > 0:
        return Share(name, count=int(value))
    number = re.fullmatch(r"(\d*\.?\d+)(%?)", value)
    fraction = float(number[1]) / (100 if number[2] else 1) if number else 0.0
    if not 0 < fraction <= 1:
        raise UserError(f"--split: {value!r} is no size of the set {name}", fix=_USE)
    return Share(name, fraction=fraction)


def assign(groups: Sequence[str], shares: Sequence[Share], seed: int) -> dict[str, Pool]:
    """A pool for every share; no group is in two of them.

    Args:
        groups: of each sample the scene that it belongs to.
        seed: the same one deals the same way.

    Raises:
        UserError: there are too few samples, or too few scenes to keep them whole.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    needs = [share.count or 1 for share in shares]
    wanted = sum(share.count or max(1, (share.fraction or 0) * len(groups)) for share in shares)
    if wanted > len(groups) + 1e-6:
        raise UserError(
            f"the split asks for {math.ceil(wanted)} samples, the source holds {len(groups)}",
            fix="Ask for fewer",
        )
    random = np.random.default_rng(seed)
    order = [list(members)[i] for i in random.permutation(len(members))]
    order.sort(key=lambda group: -len(members[group]))  # stable: equal ones stay shuffled
    sizes = [len(members[group]) for group in order]
    fair = _deal(sizes, _targets(shares, len(groups)))
    dealt = fair if _enough(sizes, fair, needs) else _search(sizes, needs)
    if dealt is None:
        raise UserError(
            f"{len(members)} scenes with {', '.join(map(str, sizes[:8]))}"
            f"{', …' if len(sizes) > 8 else ''} samples cannot be split into sets of "
            f"{', '.join(map(str, needs))} without cutting a scene in two",
            fix="Ask for fewer samples, or for fewer sets",
        )
    pools = {}
    for number, share in enumerate(shares):
        own = [members[g] for g, to in zip(order, dealt, strict=True) if to == number]
        pools[share.name] = Pool(share.count, _preferred(own, random))
    return pools


def _targets(shares: Sequence[Share], total: int) -> list[float]:
    """How many samples each set should be dealt; one entry more for those that nobody asked for."""
    fixed = sum(share.fraction or 0.0 for share in shares) * total
    counts = sum(share.count or 0 for share in shares)
    has_rest = any(share.count is None and share.fraction is None for share in shares)
    left = max(total - fixed, 0.0)
    targets = []
    for share in shares:
        if share.fraction is not None:
            targets.append(share.fraction * total)
        elif share.count is None:
            targets.append(max(left - counts, 0.0))
        else:  # scenes that nobody else wants add variety
            targets.append(float(share.count) if has_rest else left * share.count / counts)
    return [*targets, max(total - sum(targets), 0.0)]


def _deal(sizes: Sequence[int], targets: Sequence[float]) -> list[int]:
    """Of each group the set that gets it: the one that is farthest from its target."""
    missing = list(targets)
    dealt = []
    for size in sizes:
        chosen = max(range(len(missing)), key=lambda i: missing[i])
        missing[chosen] -= size
        dealt.append(chosen)
    return dealt


def _enough(sizes: Sequence[int], dealt: Sequence[int], needs: Sequence[int]) -> bool:
    got = [0] * len(needs)
    for size, to in zip(sizes, dealt, strict=True):
        if to < len(needs):
            got[to] += size
    return all(have >= need for have, need in zip(got, needs, strict=True))


def _search(sizes: Sequence[int], needs: Sequence[int]) -> list[int] | None:
    """Any way to meet all needs, by going through what the sets can hold after each group."""
    states: dict[tuple[int, ...], tuple[int, ...]] = {(0,) * len(needs): ()}
    for size in sizes:
        after: dict[tuple[int, ...], tuple[int, ...]] = {}
        for held, way in states.items():
            for to, need in enumerate(needs):
                if held[to] < need or to == 0:
                    filled = min(held[to] + size, need)
                    after.setdefault((*held[:to], filled, *held[to + 1 :]), (*way, to))
        states = after
        if len(states) > _STATES:
            return None
    found = states.get(tuple(needs))
    return None if found is None else list(found)


def _preferred(groups: Sequence[Sequence[int]], random: np.random.Generator) -> tuple[int, ...]:
    """One of each group in turn, groups in random order, frames of a group far apart first."""
    shuffled = [_far_apart(groups[i]) for i in random.permutation(len(groups))]
    longest = max((len(group) for group in shuffled), default=0)
    return tuple(group[turn] for turn in range(longest) for group in shuffled if turn < len(group))


def _far_apart(items: Sequence[int]) -> list[int]:
    """Bit-reversed order: any first ``k`` lie nearly evenly (van der Corput 1935).

    >>> _far_apart([0, 1, 2, 3, 4, 5, 6, 7])
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = max(len(items) - 1, 0).bit_length()
    places = (int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(1 << bits))
    return [items[place] for place in places if place < len(items)]


def sizes_of(pools: Mapping[str, Pool]) -> dict[str, int]:
    """How many samples each set takes."""
    return {
        name: len(pool.indices) if pool.count is None else pool.count
        for name, pool in pools.items()
    }
