"""Q/DQ scales for a DLA of the 8.x and 10.x days: a plain ONNX and a calibration cache.

Up to TensorRT 10.7 the DLA takes no Q/DQ nodes. It wants the float network and, for each tensor, a
scale s with q = round(x / s), which is exactly the scale of QuantizeLinear. TensorRT reads them
from a calibration cache, a text whose first line names the version and whose others are a tensor
and the hexadecimal float32 of its scale, most significant byte first:

    TRT-100300-EntropyCalibration2
    images: 3c010a14

Weights travel as floats; TensorRT quantizes them again by max |w| / 127 a channel, which gives back
the integers that the Q/DQ file had wherever a channel uses its whole range.

Evidence: written. Sources: NVIDIA's DLA documentation and its qdq-translator; for the cache's
format ONNX Runtime's TensorRT provider, which reads it; NVIDIA/TensorRT issue 2222 for rounding.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from exporters.errors import UserError
from runtimes.base import Evidence
from runtimes.graphview import GraphView, describe
from runtimes.tensorrt.plain import Plain, without_qdq

if TYPE_CHECKING:
    import onnx

ROUNDING = (
    "the DLA rounds ties away from zero, QuantizeLinear to the even neighbour: half a step is 1 "
    "there and 0 here. Expect single steps of difference, and compare: edgeport verify --board"
)
_SAME_VALUES = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_FLOATS = (None, "FLOAT", "FLOAT16")  # None: inference could not tell
_BACKWARD_ONLY = frozenset({"Relu"})  # what it cuts off needs no place on the scale
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?$")


@dataclass(frozen=True)
class Unscaled:
    """A tensor without a scale, and the node that makes it; both are for the reader to judge."""

    tensor: str
    node: str
    op_type: str


@dataclass(frozen=True)
class DlaScales:
    """What a DLA build needs, and what it will not find.

    Attributes:
        scales: tensor -> scale, those of the file and those that follow from them.
        followed: tensor -> the tensor whose scale it has because its values are the same.
        missing: tensors that no scale is known for: their layers run in FP16, or on the GPU.
        weights: how many weight tensors became floats again.
    """

    header: str
    scales: Mapping[str, float]
    followed: Mapping[str, str]
    missing: tuple[Unscaled, ...]
    weights: int
    rounding: str = ROUNDING
    evidence: Evidence = Evidence.WRITTEN

    def cache(self) -> str:
        """The text of the calibration cache."""
        lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return "\n".join((self.header, *lines)) + "\n"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": self.evidence.value}


def dla_scales(proto: onnx.ModelProto, tensorrt: str) -> tuple[onnx.ModelProto, DlaScales]:
    """The float network of a Q/DQ model and the scales of its tensors.

    Args:
        proto: a model without functions.
        tensorrt: version that will build, ``10.3.0``: another one's cache is refused by it.

    Raises:
        UserError: no Q/DQ, a zero point, two scales for one tensor, or a TensorRT that takes none.
    """
    header = _header(tensorrt)
    plain = without_qdq(proto)
    if not plain.scales:
        raise UserError(
            "the model has no quantized tensors, so there is no scale to write",
            fix="Quantize it first: edgeport quantize MODEL.onnx --policy tensorrt",
        )
    scales, followed = _spread(plain)
    return plain.model, DlaScales(
        header, scales, followed, _unscaled(plain.model, scales), plain.weights
    )


def _header(tensorrt: str) -> str:
    """``TRT-100300-EntropyCalibration2``: major * 10000 from 10 on, major * 1000 before."""
    match = _VERSION.match(tensorrt)
    if not match:
        raise UserError(f"{tensorrt!r} is no TensorRT version", fix="Write it like 10.3.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    if major >= 11:
        raise UserError(
            f"TensorRT {tensorrt} takes Q/DQ itself, on the DLA too",
            fix="Build the Q/DQ file there (11.4.1 or newer, on AGX Orin)",
        )
    if (major, minor) > (10, 7):
        raise UserError(
            f"TensorRT {tensorrt} has no DLA: 10.7 was the last of 10.x with one",
            fix="Build with 10.7 or older, or with 11.4.1 on AGX Orin; or build for the GPU",
        )
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    return f"TRT-{number}-EntropyCalibration2"


def _spread(plain: Plain) -> tuple[dict[str, float], dict[str, str]]:
    """Give a tensor the scale of one with the same values, until nothing changes."""
    scales, followed = dict(plain.scales), {}
    links = [
        (node.op_type, node.input[0], node.output[0])
        for node in plain.model.graph.node
        if node.op_type in _SAME_VALUES | _BACKWARD_ONLY
    ]
    changed = True
    while changed:
        changed = False
        for op_type, source, sink in links:
            steps = [(sink, source)]
            if op_type not in _BACKWARD_ONLY:
                steps.append((source, sink))
            for known, other in steps:
                if known in scales and other not in scales:
                    scales[other], followed[other] = scales[known], known
                    changed = True
    return scales, followed


def _unscaled(model: onnx.ModelProto, scales: Mapping[str, float]) -> tuple[Unscaled, ...]:
    view = GraphView(model)
    constants = {tensor.name for tensor in model.graph.initializer}

    def lacks(name: str) -> bool:
        return bool(name) and name not in scales and view.element_type(name) in _FLOATS

    inputs = [v.name for v in model.graph.input if v.name not in constants]
    missing = [Unscaled(name, "", "input") for name in inputs if lacks(name)]
    for node in model.graph.node:
        if node.op_type != "Constant":
            missing += [
                Unscaled(name, describe(node), node.op_type) for name in node.output if lacks(name)
            ]
    return tuple(missing)
