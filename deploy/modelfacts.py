"""What the report and the manifest say of a model file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from exporters.modelfile import ModelFile

JSON = dict[str, Any]


def model_facts(role: str, path: Path, folder: Path) -> JSON:
    """The entry under ``model.files`` of ``report.json``, its path relative to ``folder``."""
    model = ModelFile(path)
    graph = model.proto.graph
    default_opset = next(
        (o.version for o in model.proto.opset_import if o.domain in ("", "ai.onnx")), None
    )
    operators = Counter(node.op_type for node in graph.node)
    return {
        "role": role,
        "path": path.relative_to(folder).as_posix(),
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "opset": default_opset,
        "nodes": len(graph.node),
        "operators": dict(sorted(operators.items())),
    }


def weight_count(path: Path) -> int:
    """Elements of all initializers: parameters, and tables that were baked in."""
    graph = ModelFile(path).proto.graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
