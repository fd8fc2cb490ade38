"""CFWS on ONNX graphs: one convolution becomes a coarse and a fine one, and their sum.

    Conv(x, W, b)  ->  Add( Conv(x, s_c Qc, b),  Conv(x, F) )        W = s_c Qc + F

`arithmetic` has the formulas. With centre extraction the coarse kernel is a 1x1 whose
pads are ``pad - dilation (k - 1) / 2`` a side; where that is negative the input is cropped. Cost:
1/k² of the multiplications, one Add, one more read of x. Nodes are called ``name/coarse``,
``name/fine`` and ``name/sum``; the output tensor keeps its name and the model its metadata.

The float graph is unchanged in value. What the split is for, the integer grids, are the scales
returned beside the model: quantize the weights with exactly these. Place Q/DQ on each branch's
output for ONNX Runtime, whose integer kernels then run all three nodes; leave the branch outputs
alone for TensorRT, which adds them in float inside the second convolution.

Whether a split pays cannot be seen from the weights: a layer may have 18 dB of weight SQNR and
still kill the network. So ``gain`` measures it on the layer's output; without it, every
convolution that can be split is. What is not split is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from calibration.cfws.arithmetic import Floats, SplitOptions
from calibration.cfws.plan import Candidate, LayerGain, NotSplit, find_candidates
from calibration.cfws.rewrite import SplitConv, rewrite
from calibration.graph.prepare import is_io, prepare
from calibration.graph.queries import value_names

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

MIN_GAIN_DB = 3.0


@dataclass(frozen=True)
class Splits:
    """What was split, and what was not and why."""

    splits: tuple[SplitConv, ...]
    skipped: tuple[NotSplit, ...]

    @property
    def weight_scales(self) -> dict[str, Floats]:
        """Scale of every split weight by initializer name: what the Q/DQ placer must use."""
        scales = {s.coarse_weight: s.coarse_scale for s in self.splits}
        return scales | {s.fine_weight: s.fine_scale for s in self.splits}


class GainMeasure(Protocol):
    """Measures what a split gains, on the outputs of the layers themselves."""

    def __call__(self, model: ir.Model, candidates: Sequence[Candidate]) -> Mapping[str, LayerGain]:
        """Gain by candidate name. Must not change ``model``."""
        ...


def split_convs(
    model: ir.Model,
    options: SplitOptions | None = None,
    *,
    gain: GainMeasure | None = None,
    min_gain_db: float = MIN_GAIN_DB,
    keep: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> Splits:
    """Split, in place, the convolutions that can be, or of those the ones where it pays.

    Args:
        model: in the canonical form that `calibration.graph.prepare` makes.
        options: granularity, bits, form; the default is per channel with centre extraction.
        gain: ``calibration.cfws.gain.OutputGain(samples)`` or a measure of your own; None splits
            all that can be.
        min_gain_db: the least gain for which a layer is split.
        keep: node name prefix to the reason why it must not be touched, as `ModelSpec.keep_float`.
        only: names of the nodes to look at; all by default.
    """
    options = options or SplitOptions()
    candidates, skipped = find_candidates(model.graph, options, keep=keep, only=only)
    gains = gain(model, candidates) if gain and candidates else {}
    taken = value_names(model.graph)
    whole = {c.node.inputs[1].name for c in candidates if c.node.inputs[1] is not None}
    splits = []
    for candidate in candidates:
        measured = gains.get(candidate.name)
        # not (a >= b): a gain that is NaN, because the layer's output is zero, is no gain
        if measured is not None and not measured.gain_db >= min_gain_db:
            skipped.append(_too_little(candidate.name, measured, min_gain_db))
        else:
            splits.append(rewrite(model.graph, candidate, measured, taken))
    _drop_unused(model.graph, whole)
    return Splits(tuple(splits), tuple(skipped))


def split_model(
    model: onnx.ModelProto,
    options: SplitOptions | None = None,
    *,
    gain: GainMeasure | None = None,
    min_gain_db: float = MIN_GAIN_DB,
    keep: Mapping[str, str] | None = None,
) -> tuple[onnx.ModelProto, Splits]:
    """As `split_convs`, from ONNX to ONNX; ``model`` is left alone.

    Raises:
        UserError: the model is quantized already or holds nothing that could be.
    """
    import onnx_ir as ir

    prepared = prepare(model)
    splits = split_convs(prepared, options, gain=gain, min_gain_db=min_gain_db, keep=keep)
    return ir.to_proto(prepared), splits


def _drop_unused(graph: ir.Graph, names: set[str | None]) -> None:
    """The whole weights, where no convolution and no body of a node reads them any more."""
    for name in names:
        value = graph.initializers.get(name or "")
        if value is not None and not value.uses() and not is_io(value):
            del graph.initializers[name or ""]


def _too_little(name: str, gain: LayerGain, min_gain_db: float) -> NotSplit:
    reason = (
        f"gains {gain.gain_db:.1f} dB at its output ({gain.plain_sqnr_db:.1f} to "
        f"{gain.split_sqnr_db:.1f}), {min_gain_db:.1f} are needed"
    )
    return NotSplit(name, "Conv", reason, gain)
