"""The model as TensorRT may see it.

TensorRT's parser imports a node by its operator name alone: ``my.domain::Gelu`` becomes the
built-in Gelu and its own body is ignored, without a word. So functions are inlined here first,
and whatever still stands in a foreign domain is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import UserError
from exporters.modelfile import ModelFile
from runtimes.alternatives import without_reductions
from runtimes.graphview import all_nodes, describe
from runtimes.inlining import STANDARD_DOMAINS, inlined_file
from runtimes.targets import Stack
from runtimes.tensorrt.installed import Installed

if TYPE_CHECKING:
    import onnx

_ADDS_FROM = 10
"""TensorRT 8 parses a reduction, does not compute it and says nothing."""


def prepare(
    model: ModelFile, directory: Path, *, adds: bool = True
) -> tuple[onnx.ModelProto, Path]:
    """Inline the functions of ``model``; return the graph and a file that the parser can read.

    The file is the model's own where there was nothing to inline, else it is in ``directory``.

    Args:
        adds: whether this TensorRT's ``ScatterElements`` can add; see ``runtimes.alternatives``.

    Raises:
        UserError: a foreign operator is left.
    """
    proto = model.proto if adds else without_reductions(model.proto)[0]
    proto, path = inlined_file(model, directory, proto)
    _refuse_foreign(proto)
    return proto, path


def adds_when_scattering(stack: Stack | None, installed: Installed | None) -> bool:
    """Whether a TensorRT computes ``ScatterElements`` with ``reduction="add"``: 10 and later do.

    Args:
        stack: of the target; None for what is installed.
    """
    if stack is not None:
        module, version = stack.module, stack.version
    elif installed is not None:
        module, version = installed.module, installed.version
    else:
        return True
    return module != "tensorrt_rtx" and int(version.split(".")[0]) >= _ADDS_FROM


def exchanged(model: ModelFile, *, adds: bool) -> dict[str, Any]:
    """For a passport: the functions whose other form the engine has; empty where there are none."""
    names = () if adds else without_reductions(model.proto)[1]
    return {"sorted_in_place_of_added": list(names)} if names else {}


def multiplies_integers(model: ModelFile) -> bool:
    """Whether float products of this file are of integers, and have to be exact: no TF32."""
    spec = model.spec
    return spec is not None and (spec.quantization or {}).get("runtime") == "tensorrt"


def _refuse_foreign(proto: onnx.ModelProto) -> None:
    for node in all_nodes(proto.graph):
        if node.domain not in STANDARD_DOMAINS:
            raise UserError(
                f"node {describe(node)!r} is {node.domain}::{node.op_type}, an operator of a "
                "foreign domain without a function body; TensorRT would refuse it or take it "
                "for a built-in of the same name",
                fix="Export it as standard ONNX operators or as a model-local function",
            )
