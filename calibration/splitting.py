"""``--split``: which of the layers that a policy quantizes are split in two before it places Q/DQ.

``cfws`` splits every convolution that has a centre tap, ``auto`` those whose output gains at least
3 dB when everything that the policy rounds is rounded: the input of both twins, and on ONNX Runtime
both branches of the split one, which is what a split costs there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from calibration.cfws import Splits, split_convs
from calibration.cfws_gain import OutputGain
from calibration.placement import FloatRules, Policy
from calibration.registry import Registry
from calibration.samples.base import Samples
from calibration.split import SplitOptions
from calibration.statistics import Statistics
from exporters.errors import UserError
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]

SPLITS: Registry[str] = Registry("split")
SPLITS.add("none", "every weighted node stays one node")
SPLITS.add("cfws", "every convolution with a centre tap becomes a coarse and a fine one")
SPLITS.add("auto", "as cfws, where the layer's output gains at least 3 dB")

NO_SPLITS = Splits((), ())


def split_weights(
    model: ir.Model,
    samples: Samples | Statistics,
    how: str,
    *,
    policy: Policy,
    floats: FloatRules,
    spec: ModelSpec | None,
    half: bool,
    progress: Progress | None = None,
) -> Splits:
    """Split convolutions of ``model`` in place.

    Args:
        how: a name of `SPLITS`.
        half: weight scales must be FP16 numbers.

    Raises:
        UserError: a split is asked for, and there are statistics instead of samples: those of the
            branches are in no earlier pass.
    """
    if how == "none":
        return NO_SPLITS
    if isinstance(samples, Statistics):
        raise UserError(
            f"--split {how} makes tensors that these statistics have not seen",
            fix="Give the samples themselves (drop --statistics), or choose --split none",
        )
    quantized = {item.node.name or "" for item in policy.place(model.graph, floats).weighted}
    gain = None
    if how == "auto":
        gain = OutputGain(
            samples,
            spec,
            activations=policy.form,
            rounded_branches=policy.integer_results,
            progress=progress,
        )
    return split_convs(model, SplitOptions(half=half), gain=gain, only=quantized)


def described(splits: Splits) -> dict[str, list[dict[str, Any]]]:
    """For the report: what was split and what that gained, what was not and why."""
    done = []
    for split in splits.splits:
        entry: dict[str, Any] = {"node": split.node, "range_ratio": round(split.range_ratio, 2)}
        if split.gain is not None:
            entry["plain_sqnr_db"] = round(split.gain.plain_sqnr_db, 2)
            entry["split_sqnr_db"] = round(split.gain.split_sqnr_db, 2)
        done.append(entry)
    whole = [{"node": s.node, "op_type": s.op_type, "reason": s.reason} for s in splits.skipped]
    return {"split_nodes": done, "whole_nodes": whole}
