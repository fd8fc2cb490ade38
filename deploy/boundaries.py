"""Error at the quantization boundaries of a Q/DQ model, without breaking its integer kernels.

A runtime fuses ``DequantizeLinear → Conv → QuantizeLinear`` into one integer kernel. Making the
float tensor between them an output would forbid that fusion, and one would measure another program
than the one that is shipped. So the *integer* output of each QuantizeLinear is made a graph output,
where it exists anyway, and dequantized here:

    x' = (q - zero point) * scale

This is compared with the tensor of the same name in the float model. The number of integer
kernels with and without the extra outputs is read from ONNX Runtime's optimized graph and kept in
the result: they must be the same. A file for TensorRT is only emulated here: its Q/DQ are run as
they stand, in float, and there are no integer kernels to keep.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples.base import Samples, inputs_of
from deploy.layers_alone import LayerAlone, layers_alone
from deploy.metrics.tensors import ErrorAccumulator, TensorError
from deploy.taps import TappedModel, runner
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.base import Progress

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]

MOST_SAMPLES = 8
"""Of many samples the first so many: every one adds millions of elements to each error."""

_CHUNK_BYTES = 256 << 20  # float tensors of one pass over the samples
_INTEGER_KERNELS = ("QLinear", "ConvInteger", "MatMulInteger", "QGemm", "QAttention", "DynamicQ")


@dataclass(frozen=True)
class Boundary:
    """One place where the candidate turns a float tensor into integers.

    Attributes:
        tensor: the float tensor's name, the same in both models.
        node, op_type: what produces it; ``input`` for a graph input.
        quantized: name of the integer tensor.
        axis: of ``scale`` in the tensor; None for one scale.
    """

    tensor: str
    node: str
    op_type: str
    quantized: str
    scale: Array
    zero_point: Array
    axis: int | None

    def quantize(self, values: Array) -> Array:
        """Float tensor to integers, as QuantizeLinear does it: to even, saturating."""
        shape = [1] * values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        limits = np.iinfo(self.zero_point.dtype)
        steps = np.rint(values.astype(np.float32) / self.scale.astype(np.float32).reshape(shape))
        steps += self.zero_point.astype(np.float32).reshape(shape)
        integers: Array = np.clip(steps, limits.min, limits.max).astype(self.zero_point.dtype)
        return integers

    def dequantize(self, values: Array) -> Array:
        """Integers to float32, in float32 as DequantizeLinear does it."""
        shape = [1] * values.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        result = values.astype(np.float32)
        result -= self.zero_point.astype(np.float32).reshape(shape)
        result *= self.scale.astype(np.float32).reshape(shape)
        return result


@dataclass(frozen=True)
class LayerError:
    """The error of one boundary over all samples, with everything before it."""

    tensor: str
    node: str
    op_type: str
    error: TensorError


@dataclass(frozen=True)
class LayerComparison:
    """Errors in graph order.

    Attributes:
        alone: what each layer loses by itself, from the reference's inputs.
        absent: boundaries whose tensor the reference does not have, hence not compared.
        integer_kernels: ONNX Runtime's for the candidate as it is shipped, by operator; empty for
            a candidate that was emulated.
        observed_kernels: the same with the extra outputs.
    """

    layers: tuple[LayerError, ...]
    absent: tuple[str, ...]
    integer_kernels: Mapping[str, int]
    observed_kernels: Mapping[str, int]
    alone: tuple[LayerAlone, ...]

    @property
    def kernels_lost(self) -> int:
        """Integer kernels that the extra outputs kept from being fused."""
        return sum(self.integer_kernels.values()) - sum(self.observed_kernels.values())

    @property
    def worst_first(self) -> list[LayerError]:
        return sorted(self.layers, key=lambda layer: layer.error.sqnr_db)


def compare_layers(
    reference: Path,
    candidate: Path,
    samples: Samples,
    *,
    emulate: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LayerComparison:
    """Compare a Q/DQ model with its float model at every activation that is quantized.

    Args:
        reference: the float model file.
        candidate: the Q/DQ model file.
        samples: inputs of both; the first `MOST_SAMPLES` are run.
        emulate: the candidate is for another runtime: run its Q/DQ as they stand.
        threads: of ONNX Runtime; None for all cores.
        progress: called with ``layers`` as phase.

    Raises:
        UserError: the candidate holds no QuantizeLinear of an activation, or shares no tensor
            with the reference.
    """
    float_model, integer_model = ModelFile(reference).proto, ModelFile(candidate).proto
    boundaries = find_boundaries(integer_model)
    if not boundaries:
        raise UserError(
            f"{candidate} quantizes no activation, so there are no boundaries to compare at",
            fix="Give a file that edgeport quantize wrote, or leave out --layers",
        )
    known = {output for node in float_model.graph.node for output in node.output}
    known |= {value.name for value in float_model.graph.input}
    shared = [boundary for boundary in boundaries if boundary.tensor in known]
    if not shared:
        raise UserError(
            f"{reference} has none of the tensors that {candidate} quantizes",
            fix="Give the float model that it was quantized from",
        )
    few = [inputs_of(sample) for sample in islice(samples, MOST_SAMPLES)]
    chunks = list(_chunks(shared, _tensor_bytes(float_model)))
    with tempfile.TemporaryDirectory(prefix="edgeport-layers-") as folder:
        comparison = _Comparison(float_model, integer_model, Path(folder), few, threads)
        layers = list(comparison.run(chunks, emulate, progress))  # while the folder is there
        observed = {} if emulate else comparison.observed_kernels(shared)
    alone = layers_alone(reference, candidate, chunks, few, threads=threads, progress=progress)
    return LayerComparison(
        layers=tuple(layers),
        absent=tuple(boundary.tensor for boundary in boundaries if boundary.tensor not in known),
        integer_kernels={} if emulate else integer_kernels(candidate),
        observed_kernels=observed,
        alone=tuple(alone),
    )


def find_boundaries(model: onnx.ModelProto) -> list[Boundary]:
    """Every activation that goes through QuantizeLinear, in graph order, each once."""
    from onnx.numpy_helper import to_array

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, Boundary] = {}
    for node in model.graph.node:
        tensor = node.input[0] if node.input else ""
        if node.op_type != "QuantizeLinear" or tensor in constants or tensor in found:
            continue
        if node.input[1] not in constants:
            continue  # a scale that is computed at run time: dynamic quantization
        scale = to_array(constants[node.input[1]])
        has_zero_point = len(node.input) > 2 and node.input[2] in constants
        zero_point = to_array(constants[node.input[2]]) if has_zero_point else np.zeros(1, np.uint8)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        producer = producers.get(tensor)
        found[tensor] = Boundary(
            tensor=tensor,
            node=producer.name if producer is not None else tensor,
            op_type=producer.op_type if producer is not None else "input",
            quantized=node.output[0],
            scale=scale,
            zero_point=zero_point,
            axis=axis if scale.size > 1 else None,
        )
    return list(found.values())


def integer_kernels(path: Path) -> dict[str, int]:
    """Integer kernels by operator, from the graph as ONNX Runtime optimizes it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the optimized file fits this machine only
    with tempfile.TemporaryDirectory(prefix="edgeport-optimized-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    types = Counter(node.op_type for node in graph.node)
    return {op: types[op] for op in sorted(types) if op.startswith(_INTEGER_KERNELS)}


class _Comparison:
    """Runs both models with inner tensors as outputs, a chunk at a time to bound memory."""

    def __init__(
        self,
        float_model: onnx.ModelProto,
        integer_model: onnx.ModelProto,
        folder: Path,
        feeds: Sequence[dict[str, Array]],
        threads: int | None,
    ) -> None:
        self._float = TappedModel(float_model, folder, "reference")
        self._integer = TappedModel(integer_model, folder, "candidate")
        self._feeds = feeds
        self._threads = threads

    def run(
        self, chunks: Sequence[Sequence[Boundary]], emulate: bool, progress: Progress | None
    ) -> Iterator[LayerError]:
        done, total = 0, sum(map(len, chunks)) * len(self._feeds)
        for chunk in chunks:
            errors = [ErrorAccumulator() for _ in chunk]
            for _ in self._feed(chunk, errors, emulate):
                done += len(chunk)
                if progress is not None:
                    progress("layers", done, total)
            for boundary, error in zip(chunk, errors, strict=True):
                yield LayerError(boundary.tensor, boundary.node, boundary.op_type, error.result())

    def _feed(
        self, chunk: Sequence[Boundary], errors: Sequence[ErrorAccumulator], emulate: bool
    ) -> Iterator[None]:
        """Add every sample to ``errors``; sessions and tensors of a chunk end with it."""
        tensors = [b.tensor for b in chunk if b.op_type != "input"]
        run_float = runner(self._float.with_outputs(tensors), threads=self._threads)
        quantized = [b.quantized for b in chunk]
        run_integer = runner(
            self._integer.with_outputs(quantized), threads=self._threads, emulate=emulate
        )
        for feeds in self._feeds:
            floats = {**feeds, **(run_float(feeds) if tensors else {})}
            integers = run_integer(feeds)
            for boundary, error in zip(chunk, errors, strict=True):
                values = boundary.dequantize(integers[boundary.quantized])
                error.update(floats[boundary.tensor], values)
            yield

    def observed_kernels(self, boundaries: Sequence[Boundary]) -> dict[str, int]:
        names = [boundary.quantized for boundary in boundaries]
        return integer_kernels(self._integer.with_outputs(names, prune=False))


def _chunks(boundaries: Sequence[Boundary], sizes: Mapping[str, int]) -> Iterator[list[Boundary]]:
    """Runs of boundaries whose float tensors fit into ``_CHUNK_BYTES`` together."""
    chunk: list[Boundary] = []
    filled = 0
    for boundary in boundaries:
        size = sizes.get(boundary.tensor, _CHUNK_BYTES // 4)
        if chunk and filled + size > _CHUNK_BYTES:
            yield chunk
            chunk, filled = [], 0
        chunk.append(boundary)
        filled += size
    if chunk:
        yield chunk


def _tensor_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of every tensor whose shape can be inferred, as float32."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    return {
        value.name: 4
        * int(np.prod([max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim]))
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
