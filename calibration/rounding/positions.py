"""Layers as products of rows and weights: which they are, and rows for them from real samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.cfws.plan import COARSE, FINE, is_split_sum
from calibration.graph.queries import Weighted, constant, element_count, epilogue_of, only_reader
from calibration.observing.probe import Probe
from calibration.qdq.placement import LeftFloat, Placement
from calibration.qdq.weights import IntegerWeights, integer_weights
from calibration.rounding.adaround import Rows
from calibration.rounding.patches import Product, product_of
from calibration.rounding.twin import WeightGrids
from calibration.samples.subset import Subset
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

ROWS = 2048
"""Positions of a layer's output that are learned from, and a quarter of that to judge by."""


@dataclass(frozen=True)
class Layer:
    """One layer to learn: its numbers on the nearest grid, and where its output is compared.

    Attributes:
        output: before the activation: of the node, or of the sum where it is half of a split.
    """

    item: Weighted
    product: Product
    numbers: IntegerWeights
    output: ir.Value

    @property
    def name(self) -> str:
        return self.item.node.name or ""

    @property
    def steps(self) -> NDArray[np.float32]:
        """Of every weight, in its shape."""
        steps = np.broadcast_to(self.numbers.steps, self.numbers.weight.shape)
        return np.asarray(steps.reshape(self.item.weight.shape), np.float32)

    @property
    def real(self) -> NDArray[np.float32]:
        """The weights on the nearest grid points, in their shape."""
        return self.numbers.real.reshape(self.item.weight.shape)

    @property
    def result(self) -> ir.Value:
        """The output behind the activation that runtimes fuse."""
        producer = self.output.producer()
        epilogue = None if producer is None else epilogue_of(producer)
        return self.output if epilogue is None else epilogue.outputs[0]

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the fused activation: Relu or Clip."""
        epilogue = self.result.producer() if self.result is not self.output else None
        if epilogue is None:
            return -np.inf, np.inf
        if epilogue.op_type == "Relu":
            return 0.0, np.inf
        limits = [constant(v) for v in epilogue.inputs[1:3]] + [None, None]
        low, high = (None if a is None else float(a) for a in limits[:2])
        return -np.inf if low is None else low, np.inf if high is None else high

    @property
    def width(self) -> int:
        """Inputs that one output is made of."""
        return int(self.product.matrix(self.item.weight).shape[-1])

    @property
    def cost_bytes(self) -> int:
        """Of the rows, and of the activations that one sample hands out."""
        weight = self.item.weight
        rows = weight.size // max(self.product.outputs, 1) * self.product.groups
        tapped = sum(element_count(v) or 0 for v in (self.item.data, self.output, self.output))
        return 4 * (rows * (ROWS + ROWS // 4) + tapped)


def find_layers(
    job: Job, placement: Placement, scales: Mapping[ir.Value, Scale], grids: WeightGrids
) -> tuple[list[Layer], list[LeftFloat]]:
    """Layers whose rounding can be learned, and those where it cannot, with reasons."""
    readers = Counter(item.weight_name for item in placement.weighted)
    layers: list[Layer] = []
    left: list[LeftFloat] = []
    for item in placement.weighted:
        node = item.node
        product = product_of(item)
        total = only_reader(node.outputs[0])
        split = total if total is not None and is_split_sum(total) else None
        reason = product if isinstance(product, str) else ""
        if readers[item.weight_name] > 1:
            reason = "other nodes read the same weight"
        elif split is not None and (node.name or "").endswith(COARSE):
            reason = "the coarse half of a split is integer by construction"
        if reason or isinstance(product, str):
            left.append(LeftFloat(node.name or "", node.op_type, reason))
            continue
        numbers = integer_weights(
            item,
            scales[item.data].scale if job.policy.integer_bias else None,
            half=job.half,
            form=grids.form,
            fixed_scale=grids.scales.get(item.weight_name),
        )
        fine = split is not None and (node.name or "").endswith(FINE)
        output = split.outputs[0] if split is not None and fine else node.outputs[0]
        layers.append(Layer(item, product, numbers, output))
    return layers, left


def collect(
    job: Job,
    probe: Probe,
    outputs: Mapping[str, ir.Value],
    layers: Sequence[Layer],
    parts: tuple[Subset, Subset],
    random: np.random.Generator,
) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Rows to learn from and rows to judge by, by layer, in one pass over both parts.

    Args:
        probe: of the float network.
        outputs: of the quantized one beside it, by name.
    """
    learn, judge = parts
    together = learn.joined(judge)
    for layer in reversed(layers):
        for value in _tapped(probe, outputs, layer):
            probe.output(value)
    found: list[dict[str, list[Rows]]] = [{layer.name: [] for layer in layers} for _ in parts]
    seen = probe.arrays(together, job.file.spec, what="layer inputs", max_samples=len(together))
    for index, row in zip(together.indices, seen, strict=True):
        for part, rows, count in zip(parts, found, (ROWS, ROWS // 4), strict=True):
            if index in part.indices:
                arrays = iter(row)
                for layer in reversed(layers):
                    three = [next(arrays) for _ in range(3)]
                    rows[layer.name].append(_picked(layer, three, -(-count // len(part)), random))
    return tuple({n: _joined(r) for n, r in rows.items()} for rows in found)  # type: ignore[return-value]


def _tapped(
    probe: Probe, outputs: Mapping[str, ir.Value], layer: Layer
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The layer's blurred input, its true result, and its blurred output."""
    twin = outputs[layer.item.node.outputs[0].name or ""].producer()
    assert twin is not None  # an output of a node
    source = twin.inputs[0]
    assert source is not None  # a weighted node reads something
    return source, probe.values[layer.result.name], outputs[layer.output.name or ""]


def _picked(
    layer: Layer, arrays: list[NDArray[Any]], most: int, random: np.random.Generator
) -> Rows:
    x, result, blurred = arrays
    product = layer.product
    positions = random.permutation(product.count(result.shape))[:most]
    inputs = product.rows(x, result.shape, positions)
    nearest = product.matrix(layer.real)
    # the bias, its rounding, the other half of a split: all that the weights do not make
    offset = product.chosen(blurred, positions) - np.einsum("ngk,gok->ngo", inputs, nearest)
    return Rows(inputs, offset, product.chosen(result, positions))


def _joined(parts: list[Rows]) -> Rows:
    inputs = np.concatenate([part.inputs for part in parts])
    offset = np.concatenate([part.offset for part in parts])
    return Rows(inputs, offset, np.concatenate([part.target for part in parts]))
