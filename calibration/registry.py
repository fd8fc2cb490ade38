"""Named alternatives (scale methods, policies, …): one typed table a kind, honest about typos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from exporters.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Name to implementation; an unknown name says which are known.

    Args:
        kind: what the entries are, for the error: ``scale method``.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        if name in self._items:
            raise ValueError(f"{self._kind} {name!r} is registered already")
        self._items[name] = item
        return item

    def get(self, name: str) -> T:
        if name not in self._items:
            raise UserError(f"unknown {self._kind} {name!r}", fix=did_you_mean(name, self._items))
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        return tuple(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)
