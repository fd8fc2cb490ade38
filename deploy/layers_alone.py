"""What a layer of a Q/DQ model loses by itself: given the reference's inputs, not its forerunners'.

The error at a quantization boundary (``deploy.boundaries``) has everything in it that went wrong
before. To find the layer that did it, the candidate is cut at its boundaries: every reader of a
quantized tensor x reads the *reference's* x instead, so that each piece starts without any error,

    y^ = DQ(Q(f^(DQ(Q(x)))))        f^ the layer with its integer weights, run in float

and is compared with the reference's y. Rounding of the inputs, of the weights and of the output is
in it, and nothing else; a scale that is twice too large shows where it stands and nowhere behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.graph.queries import WEIGHTED
from calibration.samples.base import Array, Samples, inputs_of
from deploy.metrics.tensors import ErrorAccumulator, TensorError
from deploy.taps import TappedModel, inputs_read, runner
from runtimes.base import Progress

if TYPE_CHECKING:
    import onnx

    from deploy.boundaries import Boundary

MOST_SAMPLES = 4
"""A layer's own error hardly differs between samples: it is of rounding, not of luck."""

_CUT = "/reference"  # behind the name of a tensor: the input that stands for it


@dataclass(frozen=True)
class LayerAlone:
    """The own error of one layer.

    Attributes:
        node: the weighted node in it; what makes ``tensor`` where there is none.
        tensor: where it ends.
    """

    node: str
    op_type: str
    tensor: str
    error: TensorError


@dataclass(frozen=True)
class _End:
    """Where a layer ends; at a boundary its result is rounded.

    Attributes:
        dtype: of the tensor in the candidate, where what is not quantized may be FP16.
    """

    node: str
    op_type: str
    tensor: str
    dtype: Any
    boundary: Boundary | None

    def rounded(self, values: Array) -> Array:
        if self.boundary is None:
            return values
        return self.boundary.dequantize(self.boundary.quantize(values))


def layers_alone(
    float_model: onnx.ModelProto,
    integer_model: onnx.ModelProto,
    chunks: Sequence[Sequence[Boundary]],
    samples: Samples,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[LayerAlone]:
    """The own error of every layer, in graph order.

    Args:
        float_model: the reference; its tensors have the candidate's names.
        integer_model: the Q/DQ candidate.
        chunks: its boundaries, as many at a time as memory allows.
        samples: of which the first few are run.
        threads: of ONNX Runtime; None for all cores.
        progress: called with ``layers alone`` as phase.
    """
    few = [inputs_of(sample) for sample in islice(samples, MOST_SAMPLES)]
    ends = _ends(integer_model, chunks, float_model)
    types = {end.tensor: end.dtype for some in ends for end in some}
    found = []
    with tempfile.TemporaryDirectory(prefix="edgeport-alone-") as folder:
        reference = TappedModel(float_model, Path(folder), "reference")
        pieces = TappedModel(cut_at(integer_model, types), Path(folder), "pieces")
        for done, some in enumerate(ends):
            errors = [ErrorAccumulator() for _ in some]
            feed = _Feed([end.tensor for end in some], reference, pieces, types, threads)
            for sample in few:
                floats, made = feed(sample)
                for end, error in zip(some, errors, strict=True):
                    error.update(floats[end.tensor], end.rounded(made[end.tensor]))
            found += [
                LayerAlone(end.node, end.op_type, end.tensor, error.result())
                for end, error in zip(some, errors, strict=True)
            ]
            if progress is not None:
                progress("layers alone", done + 1, len(ends))
    return found


def cut_at(model: onnx.ModelProto, types: Mapping[str, Any]) -> onnx.ModelProto:
    """A copy in which whatever reads one of these tensors reads an input ``TENSOR/reference``.

    Args:
        types: numpy dtype of every tensor to cut at.
    """
    import onnx

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    for node in cut.graph.node:
        for index, name in enumerate(node.input):
            if name in types:
                node.input[index] = name + _CUT
    cut.graph.input.extend(
        onnx.helper.make_tensor_value_info(
            name + _CUT, onnx.helper.np_dtype_to_tensor_dtype(dtype), None
        )
        for name, dtype in types.items()
    )
    return cut


def _ends(
    model: onnx.ModelProto, chunks: Sequence[Sequence[Boundary]], reference: onnx.ModelProto
) -> list[list[_End]]:
    """Ends of layers in the same chunks; the last has weighted nodes behind no boundary, too."""
    producers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    named: set[str] = set()
    ends: list[list[_End]] = []
    for chunk in chunks:
        some = []
        for boundary in chunk:
            node, op_type = boundary.node, boundary.op_type
            weighted = _weighted_before(boundary.tensor, producers, constants)
            if weighted is not None:
                node, op_type = weighted.name, weighted.op_type
                named.add(node)
            some.append(_End(node, op_type, boundary.tensor, boundary.scale.dtype, boundary))
        ends.append(some)
    known = {name for node in reference.graph.node for name in node.output}
    for one in model.graph.node:
        if one.op_type in WEIGHTED and one.name not in named and one.output[0] in known:
            dtype = _weight_type(one, producers, constants)
            if dtype is not None and ends:
                ends[-1].append(_End(one.name, one.op_type, one.output[0], dtype, None))
    return ends


def _weight_type(
    node: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> Any:
    """What ``node`` computes in: the type of its weight, or of the scale behind that."""
    import onnx

    weight = node.input[1]
    if weight in producers and producers[weight].op_type == "DequantizeLinear":
        weight = producers[weight].input[1]
    tensor = constants.get(weight)
    return None if tensor is None else onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)


def _weighted_before(
    tensor: str,
    producers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> onnx.NodeProto | None:
    """The weighted node that ``tensor`` comes from through nodes of one input, an activation's."""
    while (node := producers.get(tensor)) is not None:
        if node.op_type in WEIGHTED:
            return node
        moving = {name for name in node.input if name and name not in constants}
        if len(moving) != 1 or node.op_type == "DequantizeLinear":
            return None
        tensor = moving.pop()
    return None


class _Feed:
    """Runs layers, each from the reference's own inputs."""

    def __init__(
        self,
        tensors: Sequence[str],
        reference: TappedModel,
        pieces: TappedModel,
        types: Mapping[str, Any],
        threads: int | None,
    ) -> None:
        made = [name for name in tensors if name not in reference.inputs]
        self._types = types
        self._pieces = self._reference = None
        self._read: list[str] = []
        if not made:
            return
        path = pieces.with_outputs(made)
        self._read = inputs_read(path)
        self._pieces = runner(path, threads=threads, emulate=True)
        cut = [name.removesuffix(_CUT) for name in self._read if name.endswith(_CUT)]
        inner = [name for name in dict.fromkeys([*cut, *made]) if name not in reference.inputs]
        self._reference = runner(reference.with_outputs(inner), threads=threads)

    def __call__(self, sample: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Tensors of the reference, and what each layer makes of them."""
        if self._pieces is None or self._reference is None:
            return sample, sample
        floats = {**sample, **self._reference(sample)}
        given = {}
        for name in self._read:
            tensor = name.removesuffix(_CUT)
            kept = tensor == name
            given[name] = sample[name] if kept else floats[tensor].astype(self._types[tensor])
        return floats, {**sample, **self._pieces(given)}
