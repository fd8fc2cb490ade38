"""ONNX functions written out, for runtimes that know none or take them for built-ins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporters.modelfile import ModelFile
from runtimes.graphview import all_nodes

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_PROTOBUF_LIMIT_BYTES = 2**31 - 2**24  # protobuf's 2 GiB with room for the graph


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions and without the opsets that only they used."""
    import onnx.inliner

    plain = onnx.inliner.inline_local_functions(proto, convert_version=True)
    used = {node.domain for node in all_nodes(plain.graph)} | STANDARD_DOMAINS
    for opset in [o for o in plain.opset_import if o.domain not in used]:
        plain.opset_import.remove(opset)
    return plain


def inlined_file(
    model: ModelFile, directory: Path, proto: onnx.ModelProto | None = None
) -> tuple[onnx.ModelProto, Path]:
    """The graph of ``model`` without functions, and a file that holds it.

    The file is the model's own where there was nothing to inline, else it is in ``directory``.

    Args:
        proto: another form of the model's graph, where one was made.
    """
    if not model.proto.functions:
        return model.proto, model.path
    plain = inlined(proto or model.proto)
    return plain, save(plain, directory / "inlined.onnx")


def save(proto: onnx.ModelProto, path: Path) -> Path:
    """Write ``proto``; weights beside it where one file cannot hold them."""
    import onnx

    external = proto.ByteSize() > _PROTOBUF_LIMIT_BYTES
    onnx.save(proto, path, save_as_external_data=external)
    return path
