"""A list that never grows beyond a limit and stays an even choice of what was offered.

When it is full every second item goes, and from then on only every second (fourth, eighth, …) is
taken. Which items remain depends on their number alone.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Thinned(Generic[T]):
    """Items ``0, s, 2s, …`` of those offered, ``s`` the smallest power of two that fits.

    Args:
        limit: largest number of items, even.
    """

    def __init__(self, limit: int, items: list[T] | None = None) -> None:
        self.items: list[T] = [] if items is None else items
        self._limit = limit
        self._step = 1
        self._offered = len(self.items)

    @property
    def wants_next(self) -> bool:
        """Whether the next item would be kept."""
        return self._offered % self._step == 0

    def skip(self) -> None:
        """Count an item that is not wanted, and need not be made."""
        self._offered += 1

    def add(self, item: T) -> None:
        if self.wants_next and len(self.items) == self._limit:
            self.items = self.items[::2]
            self._step *= 2
        if self.wants_next:
            self.items.append(item)
        self._offered += 1
