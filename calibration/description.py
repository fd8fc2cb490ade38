"""What a quantized model file says about its quantization: ``edgeport.quantization``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.cfws.transform import Splits
from calibration.graph.queries import is_weighted_type, multiply_adds
from calibration.job import Job
from calibration.observing.coverage import coverage_findings
from calibration.observing.statistics import Statistics
from calibration.qdq.placement import Placement
from calibration.qdq.weights import not_blocked_reason
from calibration.rounding.bias import Correction
from calibration.rounding.learning import Learning
from calibration.samples.findings import Diagnosis
from calibration.scales.methods import Scale
from calibration.scales.ranges import ChosenScales
from exporters.modelfile import PREFIX, canonical_json

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

REPORT_SCHEMA = "edgeport.quantization/2"


def describe(
    job: Job,
    graph: ir.Graph,
    placement: Placement,
    scales: Mapping[ir.Value, Scale],
    statistics: Statistics,
) -> dict[str, Any]:
    """Recipe and result; nothing in it depends on time or machine."""
    chosen = {item.node for item in placement.weighted}
    left = {item.node for item in placement.left}
    everywhere = list(graph.all_nodes())  # bodies of control flow included
    weights = [node for node in everywhere if is_weighted_type(node)]
    skipped = Counter(node.op_type for node in everywhere if node.name in left)
    steps = sorted(scale.scale for scale in scales.values())
    return {
        "schema": REPORT_SCHEMA,
        **job.options.recipe(),
        "source_sha256": job.file.sha256,
        "samples": {"count": len(statistics.sample_names), "sha256": statistics.samples_sha256},
        "quantized": dict(sorted(Counter(node.op_type for node in chosen).items())),
        "total": dict(sorted(Counter(node.op_type for node in weights).items())),
        "multiply_adds": {
            "quantized": sum(multiply_adds(node) for node in chosen),
            "total": sum(map(multiply_adds, weights)),
        },
        "activations": {
            "tensors": len(scales),
            "scales": len(placement.groups()),
            "smallest": steps[0] if steps else None,
            "median": float(np.median(steps)) if steps else None,
            "largest": steps[-1] if steps else None,
        },
        "not_blocked": _not_blocked(job, placement),
        "float_operators": dict(sorted(skipped.items())),
        "skipped": [
            {"node": item.node, "op_type": item.op_type, "reason": item.reason}
            for item in placement.left
        ],
    }


def _not_blocked(job: Job, placement: Placement) -> list[dict[str, str]]:
    """Weights that have one scale a channel although blocks were asked for, and why."""
    block = job.form.block
    found = [(item, not_blocked_reason(item, block)) for item in placement.weighted if block]
    return [
        {"node": item.node.name or "", "op_type": item.node.op_type, "reason": reason}
        for item, reason in found
        if reason
    ]


def describe_splits(splits: Splits) -> dict[str, list[dict[str, Any]]]:
    """What was split and what that gained, what was not and why."""
    done = []
    for split in splits.splits:
        entry: dict[str, Any] = {"node": split.node, "range_ratio": round(split.range_ratio, 2)}
        if split.gain is not None:
            entry["plain_sqnr_db"] = round(split.gain.plain_sqnr_db, 2)
            entry["split_sqnr_db"] = round(split.gain.split_sqnr_db, 2)
        done.append(entry)
    whole = [{"node": s.node, "op_type": s.op_type, "reason": s.reason} for s in splits.skipped]
    return {"split_nodes": done, "whole_nodes": whole}


def describe_rounding(learning: Learning) -> dict[str, list[dict[str, Any]]]:
    """What learned rounding gave each layer, and which layers keep the nearest integers and why."""
    layers = [
        {
            "node": layer.node,
            "sqnr_before_db": round(layer.sqnr_before_db, 2),
            "sqnr_after_db": round(layer.sqnr_after_db, 2),
            "moved": layer.moved,
            "kept": layer.kept,
        }
        for layer in learning.layers
    ]
    left = [{"node": i.node, "op_type": i.op_type, "reason": i.reason} for i in learning.left]
    return {"rounded_nodes": layers, "nearest_nodes": left}


def describe_correction(correction: Correction) -> dict[str, Any]:
    """Which biases were shifted and what that gave each layer, which were not and why."""
    layers = [
        {
            "node": layer.node,
            "sqnr_before_db": round(layer.sqnr_before_db, 2),
            "sqnr_after_db": round(layer.sqnr_after_db, 2),
            "kept": layer.kept,
        }
        for layer in correction.layers
    ]
    left = [{"node": i.node, "op_type": i.op_type, "reason": i.reason} for i in correction.left]
    measured = {
        "before_db": correction.before_db,
        "tried_db": correction.tried_db,
        "after_db": correction.after_db,
    }
    outputs = {name: round(db, 2) for name, db in measured.items() if db is not None}
    return {"bias_correction": outputs, "corrected_nodes": layers, "uncorrected_nodes": left}


def describe_methods(chosen: ChosenScales) -> dict[str, Any]:
    """Whose range ``auto`` took, how often, for which tensor; and what it tried as a whole."""
    rivalry = chosen.rivalry
    return {
        "scale_methods": dict(sorted(Counter(chosen.methods.values()).items())),
        "scale_method_of": dict(sorted(chosen.methods.items())),
        "output_fidelity_db": dict(rivalry.fidelity_db) if rivalry else {},
        "scales_refined": rivalry.refined if rivalry else 0,
    }


def describe_set(
    diagnosis: Diagnosis, placement: Placement, statistics: Statistics
) -> dict[str, Any]:
    """What the doctor says of the calibration set, and which ranges it has not settled."""
    tensors = dict.fromkeys(value.name or "" for value in placement.tensors)
    return diagnosis.plus(coverage_findings(statistics, tensors)).to_json()


def write_quantization(proto: onnx.ModelProto, description: Mapping[str, Any]) -> None:
    """Set ``edgeport.quantization``; all other metadata stays as it is."""
    key = PREFIX + "quantization"
    kept = [(p.key, p.value) for p in proto.metadata_props if p.key != key]
    del proto.metadata_props[:]
    for name, value in [*kept, (key, canonical_json(json.loads(json.dumps(description))))]:
        proto.metadata_props.add(key=name, value=value)
