"""What the NumPy and the PyTorch backend share: constants are arrays, and operators run at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from exporters.ops.algebra import Operator, Value, lift


class EagerBackend(ABC):
    """Executes each ONNX operator when it is applied.

    Attributes:
        kernels: ONNX operator name to a function of raw tensors and ONNX's attributes.
    """

    kernels: ClassVar[Mapping[str, Callable[..., Any]]]

    @abstractmethod
    def constant(self, value: Any, dtype: str = "int64") -> Value: ...

    def weight(self, name: str, array: Any, dtype: str | None = None) -> Value:
        """A constant; names are for graphs, and 4-bit integers are int8 here."""
        del name
        return self.constant(array, "int8" if dtype == "int4" else dtype or array.dtype.name)

    @abstractmethod
    def _parts(self, raw: Any, sizes: list[int], axis: int) -> Sequence[Any]: ...

    def apply(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        return Value(self, self.kernels[kind](*(value.raw for value in inputs), **attributes))

    def split(self, value: Value, sizes: Sequence[int] | int, axis: int) -> tuple[Value, ...]:
        if isinstance(sizes, int):
            sizes = [value.raw.shape[axis] // sizes] * sizes
        return tuple(Value(self, part) for part in self._parts(value.raw, list(sizes), axis))

    def call(
        self, called: Operator, inputs: Sequence[Value], attributes: Mapping[str, Value | int]
    ) -> Any:
        return called.body(*inputs, **{key: lift(self, v) for key, v in attributes.items()})
