"""What every quantized file is judged by, ours and the peers' alike.

Speed is FP32's latency over the file's, paired within interleaved rounds (``runtimes.bench``).
TensorRT's parser and builder are both asked, since files that parse may still fail to build. The
coverage counts weighted layers: one whose data and weight both come out of a DequantizeLinear, or
that is an integer operator itself, is INT8; one with only its weight so is weight-only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import EdgeportError
from exporters.modelfile import ModelFile
from runtimes import Case, Plan, bench, build, get

if TYPE_CHECKING:
    import onnx

    from runtimes.base import Array

THREADS = 2
_DATA_AND_WEIGHT = {"Conv": (0, 1), "ConvTranspose": (0, 1), "Gemm": (0, 1), "MatMul": (0, 1)}
_INTEGER = {
    "QLinearConv": 3,  # where the weight is among the inputs
    "QLinearMatMul": 3,
    "QGemm": 3,
    "ConvInteger": 1,
    "MatMulInteger": 1,
    "DynamicQuantizeMatMul": 1,
}
_MOVES = frozenset({"Reshape", "Transpose", "Identity", "Flatten", "Unsqueeze", "Squeeze"})


@dataclass(frozen=True)
class Coverage:
    """Weighted layers by how they are computed."""

    int8: int
    weight_only: int
    total: int

    def __str__(self) -> str:
        weights = f"+{self.weight_only}w" if self.weight_only else ""
        return f"{self.int8}{weights}/{self.total}"


def int8_coverage(model: onnx.ModelProto) -> Coverage:
    """How many of the layers with constant weights are computed in INT8."""
    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name for tensor in graph.initializer}

    def source(name: str) -> onnx.NodeProto | None:
        """What made a tensor, seen through nodes that only move values."""
        node = made_by.get(name)
        while node is not None and node.op_type in _MOVES:
            node = made_by.get(node.input[0])
        return node

    def dequantized(name: str) -> bool:
        node = source(name)
        return node is not None and node.op_type == "DequantizeLinear"

    def constant(name: str) -> bool:
        while name not in stored:
            node = made_by.get(name)
            if node is None:
                return False
            if node.op_type == "Constant":
                return True
            if not node.input or node.op_type not in _MOVES | {
                "DequantizeLinear",
                "QuantizeLinear",
            }:
                return False
            name = node.input[0]
        return True

    int8 = weight_only = total = 0
    for node in graph.node:
        if node.op_type in _INTEGER:
            held = constant(node.input[_INTEGER[node.op_type]])
            total, int8 = total + held, int8 + held
        elif node.op_type in _DATA_AND_WEIGHT and constant(node.input[1]):
            data, weight = (dequantized(node.input[i]) for i in _DATA_AND_WEIGHT[node.op_type])
            total += 1
            int8 += data and weight
            weight_only += weight and not data
    return Coverage(int8, weight_only, total)


def speeds(
    reference: Path,
    candidates: Mapping[str, Path],
    feeds: Sequence[dict[str, Array]],
    plan: Plan | None = None,
) -> dict[str, Any]:
    """FP32 and all candidates in one interleaved run on ONNX Runtime with two threads.

    A candidate that ONNX Runtime cannot run is left out of the run and its error returned.

    Returns:
        ``cases``: name -> median latency and ``speed`` (FP32 over candidate, with its interval), or
        ``error``; ``environment`` and ``notes`` of the run.
    """
    errors = {n: e for n, path in candidates.items() if (e := load_error(path, feeds[0]))}
    cases = [Case("fp32", reference, feeds, "onnxruntime", THREADS)]
    cases += [
        Case(name, path, feeds, "onnxruntime", THREADS)
        for name, path in candidates.items()
        if name not in errors
    ]
    result = bench(cases, plan)
    told: dict[str, Any] = {name: {"error": error} for name, error in errors.items()}
    for case in result.cases:
        row: dict[str, Any] = {"latency_ms": case.timing.percentiles[0].to_json()}
        if case.ratio_to_reference:
            ratio = case.ratio_to_reference
            row["speed"] = {k: round(getattr(ratio, k), 3) for k in ("value", "low", "high")}
        told[case.name] = row
    return {"cases": told, "environment": result.environment, "notes": list(result.notes)}


def load_error(path: Path, feed: Mapping[str, Array]) -> str:
    """Why ONNX Runtime cannot run the file; empty where it can."""
    try:
        session = get("onnxruntime").load(path, threads=THREADS)
        try:
            session.run(dict(feed))
        finally:
            session.close()
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:300]
    return ""


def tensorrt_verdict(path: Path) -> dict[str, Any]:
    """Whether the installed TensorRT parses the file, and whether it builds an engine of it.

    Returns:
        ``parsed``, ``built``, and the first ``reason`` where one of them is false; both are None
        where no TensorRT is installed.
    """
    runtime = get("tensorrt")
    availability = runtime.probe()
    if availability.version is None:
        return {"parsed": None, "built": None, "reason": availability.reason}
    try:
        findings = runtime.preflight(ModelFile(path))
    except EdgeportError as error:
        return {"parsed": False, "built": False, "reason": _short(error.message)}
    refused = [finding for finding in findings if finding.severity == "error"]
    if refused:
        return {"parsed": False, "built": False, "reason": _short(refused[0].message)}
    with tempfile.TemporaryDirectory(prefix="edgeport-judge-") as scratch:
        try:
            engine = build(path, Path(scratch) / "engine.plan", "tensorrt")
        except EdgeportError as error:
            return {"parsed": True, "built": False, "reason": _short(error.message)}
        size = engine.path.stat().st_size
    return {"parsed": True, "built": True, "engine_mib": round(size / 2**20, 2)}


def _short(message: str) -> str:
    return " ".join(message.split())[:300]
