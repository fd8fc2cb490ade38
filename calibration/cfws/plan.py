"""Which convolutions of a graph CFWS can split, and for what reason the others stay whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.cfws.arithmetic import (
    Floats,
    SplitOptions,
    WeightSplit,
    no_centre_reason,
    split_weight,
)
from calibration.graph.conv import ConvGeometry, conv_geometry
from calibration.graph.queries import weighted

if TYPE_CHECKING:
    import onnx_ir as ir

COARSE, FINE, SUM, CROP = "/coarse", "/fine", "/sum", "/crop"


@dataclass(frozen=True)
class LayerGain:
    """SQNR of one layer's output in dB, with the plain grid and with the split one."""

    plain_sqnr_db: float
    split_sqnr_db: float

    @property
    def gain_db(self) -> float:
        return self.split_sqnr_db - self.plain_sqnr_db


@dataclass(frozen=True)
class Candidate:
    """A convolution that can be split, and how.

    Attributes:
        weight: float32 ``[out, in/groups, *kernel]``.
    """

    node: ir.Node
    geometry: ConvGeometry
    weight: Floats
    split: WeightSplit

    @property
    def name(self) -> str:
        return self.node.name or ""

    @property
    def crops(self) -> bool:
        """Whether the coarse 1x1 reads a crop of the input."""
        _, begin, end = self.geometry.centre_tap()
        return self.extracted and any((*begin, *end))

    @property
    def extracted(self) -> bool:
        """Whether the coarse kernel is the centre tap alone."""
        return self.split.coarse_q.shape != self.weight.shape


@dataclass(frozen=True)
class NotSplit:
    """A convolution that stays one, and why."""

    node: str
    op_type: str
    reason: str
    gain: LayerGain | None = None


def find_candidates(
    graph: ir.Graph,
    options: SplitOptions,
    *,
    keep: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> tuple[list[Candidate], list[NotSplit]]:
    """Convolutions that can be split, in graph order, and those that cannot, with reasons.

    Args:
        keep: node name prefix to the reason why it must not be touched, as `ModelSpec.keep_float`.
        only: names of the nodes to look at; all by default.
    """
    top_level = set(graph)
    names = {node.name for node in top_level}
    candidates: list[Candidate] = []
    skipped: list[NotSplit] = []
    for node in graph.all_nodes():
        if only is not None and node.name not in only:
            continue
        if node.op_type == "ConvTranspose":
            found: Candidate | str = "a transposed convolution has no centre tap"
        elif node.op_type != "Conv":
            continue
        elif node not in top_level:
            found = "inside the body of a control-flow node"
        else:
            found = _kept(node, keep or {}) or _part_of_split(node, names)
            found = found or _candidate(node, options)
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            skipped.append(NotSplit(node.name or "", node.op_type, found))
    return candidates, skipped


def is_split_sum(node: ir.Node) -> bool:
    """Whether ``node`` adds the two branches of a split."""
    name = node.name or ""
    if node.op_type != "Add" or not name.endswith(SUM):
        return False
    makers = [None if v is None or (p := v.producer()) is None else p.name for v in node.inputs]
    stem = name.removesuffix(SUM)
    return makers == [stem + COARSE, stem + FINE]


def _candidate(node: ir.Node, options: SplitOptions) -> Candidate | str:
    described = weighted(node)
    if isinstance(described, str):
        return described
    weight = described.weight
    reason = no_centre_reason(weight.shape) if options.extract_centre else ""
    if reason:
        return reason
    if not weight.any():
        return "weights are all zero"
    geometry = conv_geometry(node, weight.shape)
    if isinstance(geometry, str):
        return geometry
    return Candidate(node, geometry, weight, split_weight(weight, options))


def _kept(node: ir.Node, keep: Mapping[str, str]) -> str:
    for prefix, reason in keep.items():
        if (node.name or "").startswith(prefix):
            return f"stays float: {reason}"
    return ""


def _part_of_split(node: ir.Node, names: set[str | None]) -> str:
    name = node.name or ""
    for part, other in ((FINE, COARSE), (COARSE, FINE)):
        if name.endswith(part) and name.removesuffix(part) + other in names:
            return "is one part of a split already"
    return ""
