"""One source for every integer algorithm: NumPy, PyTorch and ONNX execute the same Python.

An algorithm of this package is a function of `Value`s. A value belongs to a *backend*, and every
operation on it is one ONNX operator by name: the NumPy and the PyTorch backend compute it, the ONNX
backend emits the node. So the oracle and the exported graph cannot drift apart; what remains to be
tested is that the runtime's kernels compute what ONNX says.

    @operator("DIDouble")
    def double(x: Value, *, times: Value | int) -> Value:
        return x * times

Positional parameters are tensors, keyword-only ones integer attributes. Called with NumPy values,
the body runs; called with graph values, a node ``edgeport::DIDouble`` appears whose function body
is emitted once, and which a runtime with a fused kernel of that name may claim as a whole.

Only operators whose int64 kernels are exact in ONNX Runtime are offered. Left out on purpose are
int64 ``Max``, ``Min``, ``Sign`` and ``ReduceMax`` (wrong for some values from 2^31 on); ``Clip``,
``ReduceMin`` and ``ReduceSum`` are for the ranges that their methods state.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

DOMAIN = "edgeport"
"""Of the functions that a model file carries."""

VERSION = 1

P = ParamSpec("P")
R = TypeVar("R")


class Backend(Protocol):
    """Who computes, or writes down, one ONNX operator."""

    def constant(self, value: Any, dtype: str = "int64") -> Value: ...

    def apply(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """One ONNX operator with one output."""
        ...

    def split(self, value: Value, sizes: Sequence[int] | int, axis: int) -> tuple[Value, ...]:
        """``Split`` into parts of these sizes, or into so many equal ones."""
        ...

    def call(
        self, called: Operator, inputs: Sequence[Value], attributes: Mapping[str, Value | int]
    ) -> Any:
        """An operator of this package."""
        ...


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of integers (or booleans) of one backend.

    ``+ - *`` wrap at 64 bits as ONNX Runtime does; the algorithms' bit budgets exclude it. Python
    integers become int64 constants.

    Attributes:
        raw: an array, a torch tensor or the name of a graph value.
    """

    backend: Backend
    raw: Any

    def _with(self, kind: str, other: Value | int) -> Value:
        return self.backend.apply(kind, self, lift(self.backend, other))

    def _after(self, kind: str, other: int) -> Value:
        return self.backend.apply(kind, lift(self.backend, other), self)

    def __add__(self, other: Value | int) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._with("Mul", other)

    def __radd__(self, other: int) -> Value:
        return self._after("Add", other)

    def __rsub__(self, other: int) -> Value:
        return self._after("Sub", other)

    def __rmul__(self, other: int) -> Value:
        return self._after("Mul", other)

    def __neg__(self) -> Value:
        return self.backend.apply("Neg", self)

    def __abs__(self) -> Value:
        return self.backend.apply("Abs", self)

    def __ge__(self, other: Value | int) -> Value:
        return self._with("GreaterOrEqual", other)

    def __gt__(self, other: Value | int) -> Value:
        return self._with("Greater", other)

    def __lt__(self, other: Value | int) -> Value:
        return self._with("Less", other)

    def div(self, divisor: Value | int) -> Value:
        """Quotient truncated toward zero. The divisor is never 0 and never -1."""
        return self._with("Div", divisor)

    def cast(self, dtype: str) -> Value:
        return self.backend.apply("Cast", self, to=dtype)

    def small_clip(self, low: int, high: int) -> Value:
        """Between ``low`` and ``high``; for magnitudes below 2^31 only (shift counts)."""
        constant = self.backend.constant
        return self.backend.apply("Clip", self, constant(low), constant(high))

    def gather(self, index: Value, axis: int = 0) -> Value:
        return self.backend.apply("Gather", self, index, axis=axis)

    def row_max(self) -> Value:
        """Largest of the last axis, kept as an axis of 1; exact over the whole int64 range."""
        where = self.backend.apply("ArgMax", self, axis=-1, keepdims=1)
        return self.backend.apply("GatherElements", self, where, axis=-1)

    def row_sum(self) -> Value:
        """Sum of the last axis, kept as an axis of 1; the sum of magnitudes must be <= 2^53."""
        return self.backend.apply("ReduceSum", self, self.backend.constant([-1]), keepdims=1)

    def small_min(self, axis: int) -> Value:
        """Smallest along ``axis``, which is kept; for magnitudes below 2^31 only."""
        return self.backend.apply("ReduceMin", self, self.backend.constant([axis]), keepdims=1)

    def unsqueeze(self, axis: int) -> Value:
        return self.backend.apply("Unsqueeze", self, self.backend.constant([axis]))

    def reshape(self, *shape: int) -> Value:
        """ONNX ``Reshape``: 0 keeps a size, -1 takes the rest."""
        return self.backend.apply("Reshape", self, self.backend.constant(list(shape)))

    def transpose(self, *order: int) -> Value:
        return self.backend.apply("Transpose", self, perm=list(order))

    def split(self, sizes: Sequence[int] | int, axis: int) -> tuple[Value, ...]:
        return self.backend.split(self, sizes, axis)

    def size(self, axis: int) -> Value:
        """Length of ``axis`` as an int64 tensor of one element."""
        return self.backend.apply("Shape", self, start=axis, end=axis + 1)


@dataclass(frozen=True)
class Operator:
    """An algorithm with a name: a function of the ONNX domain ``edgeport``.

    Attributes:
        inputs, attributes: parameter names, positional and keyword-only.
    """

    name: str
    body: Callable[..., Any]
    inputs: tuple[str, ...]
    attributes: tuple[str, ...]


OPERATORS: dict[str, Operator] = {}
"""Every operator by its name, filled as the modules of this package are imported."""


def operator(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make an algorithm an operator ``edgeport::name``; its signature stays as it is."""

    def register(body: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(body)
        kinds = {p.name: p.kind for p in signature.parameters.values()}
        keyword = inspect.Parameter.KEYWORD_ONLY
        made = Operator(
            name,
            body,
            inputs=tuple(n for n, kind in kinds.items() if kind is not keyword),
            attributes=tuple(n for n, kind in kinds.items() if kind is keyword),
        )
        OPERATORS[name] = made

        @functools.wraps(body)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs).arguments
            backend = backend_of(*bound.values())
            inputs = [lift(backend, bound[key]) for key in made.inputs]
            result: R = backend.call(made, inputs, {key: bound[key] for key in made.attributes})
            return result

        return call

    return register


def backend_of(*values: object) -> Backend:
    return next(value.backend for value in values if isinstance(value, Value))


def lift(backend: Backend, value: Value | int) -> Value:
    return value if isinstance(value, Value) else backend.constant(value)


def where(condition: Value, yes: Value | int, no: Value | int) -> Value:
    backend = condition.backend
    return backend.apply("Where", condition, lift(backend, yes), lift(backend, no))


def concat(values: Sequence[Value], axis: int) -> Value:
    return values[0].backend.apply("Concat", *values, axis=axis)
