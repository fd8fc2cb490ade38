"""A model with other outputs: tensors from inside it, and no node that these do not need.

Weights are written once, beside the graph; every further set of outputs then costs a small file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from google.protobuf import message as protobuf

from calibration.samples.base import Array
from exporters.files import write_bytes

if TYPE_CHECKING:
    import onnx

Message = TypeVar("Message", bound=protobuf.Message)


class TappedModel:
    """Writes variants of one model into a folder.

    Args:
        model: with its weights; they are moved out of it.
        folder: where the files live; the caller's to delete.
        name: of the files.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path, name: str) -> None:
        import onnx

        self._folder = folder
        self._name = name
        path = folder / f"{name}.onnx"
        onnx.save_model(
            model, path, save_as_external_data=True, location=f"{name}.weights", size_threshold=1024
        )
        self._model = onnx.load(path, load_external_data=False)

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self._model.graph.input]

    def with_outputs(self, tensors: Sequence[str], *, prune: bool = True) -> Path:
        """Write the model with ``tensors`` as outputs; a later call replaces the file.

        Args:
            tensors: names of tensors of the graph.
            prune: give these alone and leave out nodes that they do not need; else give them
                after the model's own outputs. Inputs alone are given that way too.
        """
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        nodes = [_copy(node) for node in _needed(graph.node, tensors)]
        if prune and nodes:  # inputs alone need no node, and ONNX Runtime takes no empty graph
            used = {name for node in nodes for name in _inputs(node)}
            weights = [_copy(tensor) for tensor in graph.initializer if tensor.name in used]
            for field in (graph.node, graph.initializer, graph.output):
                del field[:]
            graph.node.extend(nodes)
            graph.initializer.extend(weights)
        taken = {value.name for value in graph.output}
        graph.output.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in taken)
        path = self._folder / f"{self._name}.tapped.onnx"
        write_bytes(path, model.SerializeToString(), overwrite=True)
        return path


def inputs_read(path: Path) -> list[str]:
    """Inputs that the model at ``path`` reads; it loses those that nothing in it does.

    A runtime wants to be fed with every input that a graph declares.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    used = {name for node in model.graph.node for name in _inputs(node)}
    read = [_copy(value) for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    model.graph.input.extend(read)
    write_bytes(path, model.SerializeToString(), overwrite=True)
    return [value.name for value in read]


def runner(
    path: Path, *, threads: int | None, emulate: bool = False
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Every output of the model at ``path`` by name, from its inputs by name.

    Args:
        threads: of ONNX Runtime; None for all cores.
        emulate: run Q/DQ as they stand, in float, in place of integer kernels.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    if emulate:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _copy(message: Message) -> Message:
    """A message that lives on when the list that it is in is emptied."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _needed(nodes: Sequence[onnx.NodeProto], tensors: Iterable[str]) -> Iterator[onnx.NodeProto]:
    """The nodes that ``tensors`` depend on, in graph order."""
    wanted = set(tensors)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(_inputs(node))
            kept.append(node)
    return reversed(kept)


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Names that ``node`` reads, those inside the branches of If and Loop included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _inputs(inner)
