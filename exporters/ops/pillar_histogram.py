"""``edgeport::PillarHistogram``: how many points share a point's cell, and their intensities' sum.

    (x, y, bin) = floor((xyz - low) / step)                                           float32
    place  = y * nx + x                                                    of the pillar, int64
    slot   = number * bins + bin       number: of the pillar among those with points, by place
    counts = number of counted rows in the cell of this row                           int32, exact
    sums   = sum of clip(round(scale * intensity), 0, 255) over those rows            int32, exact

A row counts if its index lies in ``size``, its x or y is at least ``ego`` away from 0, all its
values are finite and its pillar's number is below ``pillars``. A row that does not count is given
the place and the slot of the first row that does, so every row may be written where its cell lies:
equal cells have equal values. Where no row counts, all four are 0. The sums are integers, so the
order of the points cannot change them.

| tensor or attribute | |
|---|---|
| ``points`` | float32 ``[N, columns]``: x, y, z, intensity, … |
| ``places``, ``slots``, ``counts``, ``sums`` | int64, int64, int32, int32 ``[N]`` |
| ``low``, ``step`` | floats, 3: metres |
| ``size`` | ints, 3: nx, ny, bins |
| ``scale`` | float: 255 over the intensity of a full return |
| ``ego`` | float: metres; 0 leaves nothing out |
| ``pillars`` | int: at most so many; times bins it must be below 2^31 |

Cells are counted in a table of ``pillars * bins`` numbers, not in the whole grid, which is empty
but for a hundredth: clearing it would cost more than all else. Two bodies compute the same
integers. ``PillarHistogram`` adds with ``ScatterElements``. ``PillarHistogramSorted`` is for
runtimes without such a reduction (TensorRT before 10, TensorRT-RTX): a stable radix sort of the
slots, four bits a pass. The place of a row in a pass is its place in the running sum over the
16 x N table of which row has which digit; totals of a cell are differences of running sums at its
borders. It uses ``CumSum``, ``Gather`` and ``ScatterElements`` with indices that never repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

DOMAIN = "edgeport"
NAME = "PillarHistogram"
SORTED = "PillarHistogramSorted"
ATTRIBUTES = ("low", "step", "size", "scale", "ego", "pillars")
OUTPUTS = ("places", "slots", "counts", "sums")

_LARGEST = 3.0e38  # below float32's infinity, and false for NaN
_MANY = 1 << 16  # more columns than any point has
_DIGIT_BITS = 4


def pillar_histogram(
    points: Tensor,
    low: Sequence[float],
    step: Sequence[float],
    size: Sequence[int],
    scale: float,
    pillars: int,
    ego: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator on torch tensors; see the module for what it gives."""
    places, slots, counts, sums = _registered()(
        points, list(low), list(step), list(size), float(scale), float(ego), int(pillars)
    )
    return places, slots, counts, sums


def translation() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """For ``exporters.trace``: the torch operator, and what writes its node into a graph."""
    import onnx
    from onnxscript import values

    formal = onnx.defs.OpSchema.FormalParameter
    kinds = onnx.defs.OpSchema.AttrType
    types = {"low": kinds.FLOATS, "step": kinds.FLOATS, "size": kinds.INTS, "pillars": kinds.INT}
    schema = onnx.defs.OpSchema(
        NAME,
        DOMAIN,
        1,
        inputs=[formal("points", "tensor(float)")],
        outputs=[
            formal("places", "tensor(int64)"),
            formal("slots", "tensor(int64)"),
            formal("counts", "tensor(int32)"),
            formal("sums", "tensor(int32)"),
        ],
        attributes=[
            onnx.defs.OpSchema.Attribute(name, types.get(name, kinds.FLOAT)) for name in ATTRIBUTES
        ],
    )
    node = values.Op(values.Opset(DOMAIN, 1), NAME, schema)

    def write(
        points: Any, low: Any, step: Any, size: Any, scale: float, ego: float, pillars: int
    ) -> Any:
        numbers = {"low": list(low), "step": list(step), "size": list(size)}
        return node(points, **numbers, scale=scale, ego=ego, pillars=pillars)

    return _registered(), write


def functions(cells: int) -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """The bodies for at most ``cells`` (pillars * bins): the adding one and the sorting one."""
    return _adding(), _sorting(passes=max(1, -(-(cells - 1).bit_length() // _DIGIT_BITS)))


_SCHEMA = (
    "(Tensor points, float[] low, float[] step, int[] size, float scale, float ego, int pillars)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


@cache
def _registered() -> Callable[..., Any]:
    import torch

    name = f"{DOMAIN}::pillar_histogram"
    operator: Any = torch.library.custom_op(
        name, _eager, mutates_args=(), device_types="cpu", schema=_SCHEMA
    )
    operator.register_fake(_fake)
    overload: Callable[..., Any] = torch.ops.edgeport.pillar_histogram.default
    return overload


def _eager(
    points: Tensor,
    low: list[float],
    step: list[float],
    size: list[int],
    scale: float,
    ego: float,
    pillars: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    import torch

    index = torch.floor((points[:, :3] - points.new_tensor(low)) / points.new_tensor(step))
    taken = ((index >= 0) & (index < points.new_tensor(size))).all(dim=1)
    taken &= (points.abs() < _LARGEST).all(dim=1)
    taken &= points[:, :2].abs().amax(dim=1) >= ego
    x, y, height = torch.where(taken[:, None], index, 0).to(torch.int64).unbind(dim=1)
    places = y * size[0] + x
    there, number = torch.unique(torch.where(taken, places, -1), return_inverse=True)
    number = number - (there[:1] < 0).to(torch.int64)
    taken &= number < pillars
    first = taken.to(torch.int32).argmax()
    slots = number.clamp(min=0) * size[2] + height
    places = torch.where(taken, places, places[first])
    slots = torch.where(taken, slots, slots[first])
    if not taken.any():
        places, slots = torch.zeros_like(places), torch.zeros_like(slots)
    levels = torch.round(points[:, 3] * scale).clamp(0, 255)
    levels = torch.where(taken, levels, 0).to(torch.int32)
    empty = torch.zeros(pillars * size[2], dtype=torch.int32)
    counts = empty.scatter_add(0, slots, taken.to(torch.int32))[slots]
    return places, slots, counts, empty.scatter_add(0, slots, levels)[slots]


def _fake(points: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    import torch

    counts = points.new_empty(points.shape[0], dtype=torch.int32)
    places = counts.to(torch.int64)
    return places, torch.empty_like(places), counts, torch.empty_like(counts)


class _Body:
    """Nodes of a function, written as calls; every call gives the name of its first output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def __call__(self, kind: str, *inputs: str, named: str = "", **attributes: Any) -> str:
        import onnx

        name = named or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def attribute(self, name: str, kind: str) -> str:
        """The value of an attribute of the caller; ``kind`` as ``Constant`` calls it."""
        import onnx

        made = self("Constant")
        types = onnx.AttributeProto
        reference = self.nodes[-1].attribute.add(name=f"value_{kind}", ref_attr_name=name)
        reference.type = getattr(types, kind.upper())
        return made

    def number(self, value: Any, dtype: str) -> str:
        return self("Constant", value=_tensor(value, dtype))

    def cast(self, value: str, dtype: str) -> str:
        import onnx

        return self("Cast", value, to=onnx.TensorProto.DataType.Value(dtype))

    def column(self, table: str, index: int) -> str:
        """A row of ``table``, which holds one column of the points in each."""
        return self("Gather", table, self.number(index, "int64"), axis=0)

    def finish(self, name: str) -> onnx.FunctionProto:
        import onnx

        return onnx.helper.make_function(
            DOMAIN,
            name,
            ["points"],
            OUTPUTS,
            self.nodes,
            [onnx.helper.make_opsetid("", 17)],
            ATTRIBUTES,
        )


def _tensor(value: Any, dtype: str) -> onnx.TensorProto:
    import numpy as np
    import onnx

    return onnx.numpy_helper.from_array(np.array(value, dtype))


def _cells(body: _Body) -> tuple[str, str]:
    """Writes ``places``, ``slots``; gives what a row adds to its cell: 1 or 0, its level or 0."""
    axis, zero = body.number([0], "int64"), body.number(0.0, "float32")
    three, most = body.number([3], "int64"), body.number([_MANY], "int64")
    # a column lies in one piece, so that every step below is a pass over a plain vector
    columns = body("Transpose", "points", perm=[1, 0])
    low, step, size = (
        body("Unsqueeze", body.attribute(name, kind), body.number([1], "int64"))
        for name, kind in (("low", "floats"), ("step", "floats"), ("size", "ints"))
    )
    index = body("Slice", columns, axis, three, axis)
    index = body("Floor", body("Div", body("Sub", index, low), step))
    above = body("GreaterOrEqual", index, zero)
    below = body("Less", index, body.cast(size, "FLOAT"))
    within = _in_all(body, body("And", above, below), axis)  # so x, y and z are finite
    others = body("Abs", body("Slice", columns, three, most, axis))
    finite = _in_all(body, body("Less", others, body.number(_LARGEST, "float32")), axis)
    ground = body("Max", *(body("Abs", body.column(columns, at)) for at in range(2)))
    outer = body.cast(body("GreaterOrEqual", ground, body.attribute("ego", "float")), "INT32")
    ones = body("Mul", body("Mul", within, finite), outer)
    index = body("Where", body.cast(ones, "BOOL"), index, zero)
    index = body.cast(index, "INT64")
    x, y, height = (body.column(index, number) for number in range(3))
    nx, ny, bins = (body.column(size, at) for at in range(3))
    place = body("Add", body("Mul", y, nx), x)
    number = _numbers(body, place, ones, body("Mul", nx, ny))
    room = body.cast(body.attribute("pillars", "int"), "INT32")
    ones = body("Mul", ones, body.cast(body("Less", number, room), "INT32"))
    taken = body.cast(ones, "BOOL")
    slot = body("Add", body("Mul", body.cast(number, "INT64"), bins), height)
    # TensorRT finds no largest in a vector
    first = body("ArgMax", body("Unsqueeze", ones, axis), axis=1, keepdims=0)
    # where no row counts, the first one does not either: it has place 0 and slot 0
    body("Where", taken, place, body("Gather", place, first), named="places")
    body("Where", taken, slot, body("Gather", slot, first), named="slots")
    scaled = body("Mul", body.column(columns, 3), body.attribute("scale", "float"))
    levels = body("Clip", body("Round", scaled), zero, body.number(255.0, "float32"))
    return ones, body.cast(body("Where", taken, levels, zero), "INT32")


def _numbers(body: _Body, place: str, ones: str, ground: str) -> str:
    """Number of each row's pillar among those with points, int32; 0 for rows with a 0."""
    one = body.number([1], "int64")
    # rows that do not count write beyond the ground
    written = body("Where", body.cast(ones, "BOOL"), place, ground)
    # TensorRT takes no more indices than there are places to write to
    rows = body("Shape", "points", start=0, end=1)
    room = body("Max", body("Add", ground, one), rows)
    empty = body("ConstantOfShape", room, value=_tensor([0], "int32"))
    found = body("ScatterElements", empty, written, ones, axis=0)
    running = body("CumSum", found, body.number(0, "int64"))
    number = body("Sub", body("Gather", running, place), body.number(1, "int32"))
    return body("Mul", number, ones)


def _in_all(body: _Body, flags: str, axis: str) -> str:
    """1 where a row has no false flag, else 0. ``ReduceSum`` is written alike since opset 13."""
    missing = body.cast(body("Not", flags), "INT32")
    count = body("ReduceSum", missing, axis, keepdims=0)
    return body.cast(body("Equal", count, body.number(0, "int32")), "INT32")


def _adding() -> onnx.FunctionProto:
    body = _Body()
    added = _cells(body)
    bins = body("Gather", body.attribute("size", "ints"), body.number([2], "int64"))
    room = body("Mul", bins, body.attribute("pillars", "int"))
    for values, output in zip(added, ("counts", "sums"), strict=True):
        empty = body("ConstantOfShape", room, value=_tensor([0], "int32"))
        total = body("ScatterElements", empty, "slots", values, axis=0, reduction="add")
        body("Gather", total, "slots", named=output)
    return body.finish(NAME)


def _sorting(passes: int) -> onnx.FunctionProto:
    body = _Body()
    added = _cells(body)
    one = body.number(1, "int32")
    axis0 = body.number(0, "int64")
    rows = body("Shape", "points", start=0, end=1)
    places = _counted_from_zero(body, rows)
    order, keys = places, body.cast("slots", "INT32")
    for index in range(passes):
        order, keys = _radix_pass(body, index, places, rows, order, keys)
    # a cell starts where the sorted key differs from the one before
    padded = body("Concat", body.number([-1], "int32"), keys, axis=0)
    zero64, last64 = body.number([0], "int64"), body.number([-1], "int64")
    before = body("Slice", padded, zero64, last64, zero64)
    starts = body("Not", body("Equal", keys, before))
    number = body("Sub", body("CumSum", body.cast(starts, "INT32"), axis0), one)
    # where each cell starts; rows within a cell write beyond the table, each to its own place
    count = body.cast(rows, "INT32")
    table = body("Expand", count, body("Add", body("Add", rows, rows), body.number([1], "int64")))
    beyond = body("Add", body("Add", places, count), one)
    at = body.cast(body("Where", starts, number, beyond), "INT64")
    table = body("ScatterElements", table, at, places, axis=0)
    here = body.cast(body("Gather", table, body.cast(number, "INT64")), "INT64")
    following = body.cast(body("Add", number, one), "INT64")
    there = body.cast(body("Gather", table, following), "INT64")
    back = body.cast(order, "INT64")
    for values, output in zip(added, ("counts", "sums"), strict=True):
        ranked = body("Gather", values, back)
        running = body("CumSum", ranked, axis0)
        running = body("Concat", body.number([0], "int32"), running, axis=0)
        total = body("Sub", body("Gather", running, there), body("Gather", running, here))
        body("ScatterElements", places, back, total, axis=0, named=output)
    return body.finish(SORTED)


def _counted_from_zero(body: _Body, rows: str) -> str:
    """0, 1, … N - 1 as int32."""
    ones = body("Expand", body.number([1], "int32"), rows)
    running = body("CumSum", ones, body.number(0, "int64"))
    return body("Sub", running, body.number(1, "int32"))


def _radix_pass(
    body: _Body, index: int, places: str, rows: str, order: str, keys: str
) -> tuple[str, str]:
    """Order and keys after a stable sort by one digit of the keys."""
    digits = 1 << _DIGIT_BITS
    shifted = body("Div", keys, body.number(digits**index, "int32"))
    digit = body("Mod", shifted, body.number(digits, "int32"))
    table = body.number([[value] for value in range(digits)], "int32")
    which = body.cast(
        body("Equal", body("Unsqueeze", digit, body.number([0], "int64")), table), "INT32"
    )
    flat = body("Reshape", which, body.number([-1], "int64"))
    running = body("CumSum", flat, body.number(0, "int64"))
    mine = body("Add", body("Mul", digit, body.cast(rows, "INT32")), places)
    place = body("Sub", body("Gather", running, body.cast(mine, "INT64")), body.number(1, "int32"))
    target = body.cast(place, "INT64")
    return (
        body("ScatterElements", places, target, order, axis=0),
        body("ScatterElements", places, target, keys, axis=0),
    )
