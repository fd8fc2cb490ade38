"""How much room pooling tables of a fixed size have, what fits in it and what to say if not.

A model that takes its rig as inputs has tables of fixed sizes: G groups per image column, and
buckets of cells that are the sum of up to K groups (``exporters.flashocc.pooling``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError

Index = NDArray[np.intp]

_GROUP_EDGES = (2, 4, 16)
"""Most cells of an upright rig hold one group, few more than four; then by factors of four."""


@dataclass(frozen=True)
class Capacity:
    """Sizes of the column form's tables.

    Attributes:
        groups: per image column.
        buckets: ``(K, n)``: n cells may be the sum of up to K groups each; K ascending.
    """

    groups: int
    buckets: tuple[tuple[int, int], ...]

    def with_headroom(self, factor: float = 1.1) -> Capacity:
        return Capacity.covering([self], factor)

    @classmethod
    def covering(cls, needs: Iterable[Capacity], factor: float = 1.1) -> Capacity:
        """Room for each of ``needs`` times ``factor``, in steps of eight.

        Buckets are those of 2, 4, 16 and 64 groups (and wider ones where needed), whatever
        widths the needs have, since the largest number of groups in a cell varies most.
        """
        groups = 0
        cells = dict.fromkeys((*_GROUP_EDGES, 64), 0)
        for need in needs:
            groups = max(groups, need.groups)
            for width, count in need.buckets:
                edge = edges_up_to(_GROUP_EDGES, width)[-1]
                cells[edge] = max(cells.get(edge, 0), count)
        buckets = tuple((width, _round_up(n * factor + 8)) for width, n in sorted(cells.items()))
        return cls(_round_up(groups * factor), buckets)

    def to_json(self) -> dict[str, Any]:
        return {"groups": self.groups, "buckets": [list(bucket) for bucket in self.buckets]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Capacity:
        return cls(int(data["groups"]), tuple((int(k), int(n)) for k, n in data["buckets"]))


def table_names(capacity: Capacity) -> tuple[str, ...]:
    """Names of the model inputs that carry tables of this capacity."""
    return ("rig_rows", "rig_mask", "rig_cells", *(f"rig_sum{k}" for k, _ in capacity.buckets))


def bucket_sizes(length: Index) -> tuple[tuple[int, int], ...]:
    """The smallest buckets for cells of ``length`` groups each."""
    sizes = []
    shortest = 2
    for edge in edges_up_to(_GROUP_EDGES, int(length.max(initial=0))):
        member = length[(length >= shortest) & (length <= edge)]
        shortest = edge + 1
        if len(member):
            sizes.append((int(member.max()), len(member)))
    return tuple(sizes)


def fill_buckets(length: Index, buckets: Sequence[tuple[int, int]]) -> tuple[list[Index], Index]:
    """Which cells of several groups each bucket takes, and those that found no room.

    A cell may stand in any bucket wide enough, so filling the narrowest first wastes no room.
    """
    waiting = np.flatnonzero(length > 1)
    members = []
    for width, room in buckets:
        members.append(waiting[length[waiting] <= width][:room])
        waiting = np.setdiff1d(waiting, members[-1], assume_unique=True)
    return members, waiting


def edges_up_to(edges: tuple[int, ...], largest: int) -> list[int]:
    """``edges`` up to the first that holds ``largest``, continued by factors of four."""
    result = [edges[0]]
    while result[-1] < largest:
        position = len(result)
        result.append(edges[position] if position < len(edges) else result[-1] * 4)
    return result


def too_many_groups(camera: int, names: Sequence[str], needed: int, capacity: int) -> UserError:
    return UserError(
        f"{_camera(camera, names)} needs {needed} groups in one image column, "
        f"the model has room for {capacity}",
        fix="Check that camera's roll and calibration, export with its rig as --reference-rig, "
        "or bake this rig in with: edgeport export --rig rig.json",
    )


def too_many_sums(camera: int, names: Sequence[str], cells: int, groups: int) -> UserError:
    return UserError(
        f"{_camera(camera, names)} crowds {cells} BEV cells with up to {groups} groups each, "
        "for which the model's tables have no room",
        fix="Check that camera's calibration, export with its rig as --reference-rig, "
        "or bake this rig in with: edgeport export --rig rig.json",
    )


def _round_up(size: float) -> int:
    return int(-(-size // 8)) * 8


def _camera(index: int, names: Sequence[str]) -> str:
    return f"camera {names[index] if index < len(names) else index}"
