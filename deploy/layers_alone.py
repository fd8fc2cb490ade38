"""What a layer of a Q/DQ model loses by itself: given the reference's inputs, not its forerunners'.

The error at a quantization boundary (``deploy.boundaries``) has everything in it that went wrong
before. To find the layer that did it, the candidate is cut at its boundaries: every reader of a
quantized tensor x reads the *reference's* x instead, so that each piece starts without any error,

    y^ = DQ(Q(f^(DQ(Q(x)))))        f^ the layer with its integer weights, run in float

and is compared with the reference's y. Rounding of the inputs, of the weights and of the output is
in it, and nothing else; a scale that is twice too large shows where it stands and nowhere behind.

How much that matters is another question: the layers with the largest errors of their own are tried
in the float network, one at a time, and ranked by what is left of its outputs
(`deploy.layers_at_outputs`).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.queries import WEIGHTED
from calibration.samples.base import Array
from deploy.layers_at_outputs import OutputTrial
from deploy.metrics.tensors import ErrorAccumulator, TensorError
from deploy.taps import TappedModel, inputs_read, runner
from exporters.modelfile import ModelFile
from runtimes.base import Progress

if TYPE_CHECKING:
    import onnx

    from deploy.boundaries import Boundary

MOST_SAMPLES = 4
"""A layer's own error hardly differs between samples: it is of rounding, not of luck."""

MOST_TRIED = 8
"""Layers whose error is tried at the outputs: those with the largest."""

TRIED_SAMPLES = 2
"""On so many samples; a run of the whole network for each of them and each layer."""

_CUT = "/reference"  # behind the name of a tensor: the input that stands for it


@dataclass(frozen=True)
class LayerAlone:
    """The own error of one layer.

    Attributes:
        node: the weighted node in it; what makes ``tensor`` where there is none.
        tensor: where it ends.
        outputs_db: how near the outputs of the float network stay if it alone makes this error;
            None where that was not tried.
    """

    node: str
    op_type: str
    tensor: str
    error: TensorError
    outputs_db: float | None = None


def worst_first(layers: Iterable[LayerAlone]) -> list[LayerAlone]:
    """Those tried at the outputs before all others, by what they leave of them."""
    return sorted(layers, key=lambda layer: rank(layer.outputs_db, layer.error.sqnr_db))


def rank(outputs_db: float | None, sqnr_db: float) -> tuple[float, float]:
    """What `worst_first` sorts by."""
    return math.inf if outputs_db is None else outputs_db, sqnr_db


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
    reference: Path,
    candidate: Path,
    chunks: Sequence[Sequence[Boundary]],
    feeds: Sequence[dict[str, Array]],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[LayerAlone]:
    """The own error of every layer, in graph order.

    Args:
        reference: the float model file; its tensors have the candidate's names.
        candidate: the Q/DQ model file.
        chunks: its boundaries, as many at a time as memory allows.
        feeds: inputs of samples, of which the first few are run.
        threads: of ONNX Runtime; None for all cores.
        progress: called with ``layers alone`` as phase.
    """
    few = feeds[:MOST_SAMPLES]
    float_model, integer_model = ModelFile(reference).proto, ModelFile(candidate).proto
    ends = _ends(integer_model, chunks, float_model)
    with tempfile.TemporaryDirectory(prefix="edgeport-alone-") as folder:
        cut = _CutModels(float_model, integer_model, ends, Path(folder), threads)
        found: dict[str, LayerAlone] = {}
        for done, some in enumerate(ends):
            errors = [ErrorAccumulator() for _ in some]
            pairs = cut.pairs(some)
            for sample in few:
                for error, pair in zip(errors, pairs(sample), strict=True):
                    error.update(*pair)
            for end, error in zip(some, errors, strict=True):
                found[end.tensor] = LayerAlone(end.node, end.op_type, end.tensor, error.result())
            if progress is not None:
                progress("layers alone", done + 1, len(ends) + 1)
        flat = sorted((e for some in ends for e in some), key=lambda e: _own_db(found[e.tensor]))
        tried = [end for end in flat if _own_db(found[end.tensor]) < math.inf][:MOST_TRIED]
        fidelities = _at_outputs(reference, tried, cut, few[:TRIED_SAMPLES], threads)
    if progress is not None:
        progress("layers alone", len(ends) + 1, len(ends) + 1)
    return [replace(one, outputs_db=fidelities.get(one.tensor)) for one in found.values()]


def _own_db(layer: LayerAlone) -> float:
    """To sort by; an error that is no number comes first of all."""
    return -math.inf if math.isnan(layer.error.sqnr_db) else layer.error.sqnr_db


def _at_outputs(
    reference: Path,
    tried: Sequence[_End],
    cut: _CutModels,
    samples: Sequence[dict[str, Array]],
    threads: int | None,
) -> dict[str, float]:
    """How near the float network's outputs stay with the error of each layer, by its tensor."""
    tensors = [end.tensor for end in tried]
    trial = OutputTrial(ModelFile(reference).proto, tensors, threads=threads)
    if not tried or not trial.is_possible:
        return {}
    pairs = cut.pairs(tried)
    found: dict[str, list[float]] = {end.tensor: [] for end in tried}
    for sample in samples:
        given = trial.given(sample)
        for end, (true, made) in zip(tried, pairs(sample), strict=True):
            found[end.tensor].append(trial.fidelity_db(given, end.tensor, made - true))
    return {tensor: float(np.mean(values)) for tensor, values in found.items()}


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


Pairs = Callable[[dict[str, Array]], list[tuple[Array, Array]]]


class _CutModels:
    """The reference, and the candidate in pieces that are given the reference's tensors.

    Args:
        float_model, integer_model: their weights are moved out of them.
        ends: where the candidate is cut.
        folder: for files; the caller's to delete.
    """

    def __init__(
        self,
        float_model: onnx.ModelProto,
        integer_model: onnx.ModelProto,
        ends: Sequence[Sequence[_End]],
        folder: Path,
        threads: int | None,
    ) -> None:
        self._types = {end.tensor: end.dtype for some in ends for end in some}
        self._reference = TappedModel(float_model, folder, "reference")
        self._pieces = TappedModel(cut_at(integer_model, self._types), folder, "pieces")
        self._threads = threads

    def pairs(self, ends: Sequence[_End]) -> Pairs:
        """A function of a sample: for each of ``ends`` the true tensor, and what the layer makes.

        The next call takes the files that it runs away.
        """
        own = self._reference.inputs
        made = [end.tensor for end in ends if end.tensor not in own]
        if not made:
            return lambda sample: [_pair(end, sample, sample) for end in ends]
        path = self._pieces.with_outputs(made)
        read = inputs_read(path)
        run_pieces = runner(path, threads=self._threads, emulate=True)
        cut = [name.removesuffix(_CUT) for name in read if name.endswith(_CUT)]
        inner = [name for name in dict.fromkeys([*cut, *made]) if name not in own]
        run_reference = runner(self._reference.with_outputs(inner), threads=self._threads)

        def pairs_of(sample: dict[str, Array]) -> list[tuple[Array, Array]]:
            floats = {**sample, **run_reference(sample)}
            given = {name: self._given(name, floats) for name in read}
            found = {**sample, **run_pieces(given)}
            return [_pair(end, floats, found) for end in ends]

        return pairs_of

    def _given(self, name: str, floats: Mapping[str, Array]) -> Array:
        """What a piece reads: a tensor of the reference, in the candidate's type; or an input."""
        tensor = name.removesuffix(_CUT)
        return floats[tensor] if tensor == name else floats[tensor].astype(self._types[tensor])


def _pair(end: _End, floats: Mapping[str, Array], made: Mapping[str, Array]) -> tuple[Array, Array]:
    return floats[end.tensor], end.rounded(made[end.tensor])
