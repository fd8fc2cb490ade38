"""The model as TensorRT may see it.

TensorRT's parser imports a node by its operator name alone: ``my.domain::Gelu`` becomes the
built-in Gelu and its own body is ignored, without a word. So functions are inlined here first,
and whatever still stands in a foreign domain is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.graphview import all_nodes, describe
from runtimes.inlining import STANDARD_DOMAINS, inlined_file

if TYPE_CHECKING:
    import onnx


def prepare(model: ModelFile, directory: Path) -> tuple[onnx.ModelProto, Path]:
    """Inline the functions of ``model``; return the graph and a file that the parser can read.

    The file is the model's own where there was nothing to inline, else it is in ``directory``.

    Raises:
        UserError: a foreign operator is left.
    """
    proto, path = inlined_file(model, directory)
    _refuse_foreign(proto)
    return proto, path


def _refuse_foreign(proto: onnx.ModelProto) -> None:
    for node in all_nodes(proto.graph):
        if node.domain not in STANDARD_DOMAINS:
            raise UserError(
                f"node {describe(node)!r} is {node.domain}::{node.op_type}, an operator of a "
                "foreign domain without a function body; TensorRT would refuse it or take it "
                "for a built-in of the same name",
                fix="Export it as standard ONNX operators or as a model-local function",
            )
