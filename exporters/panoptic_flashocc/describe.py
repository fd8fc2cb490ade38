"""The self-description of a Panoptic-FlashOcc model file: FlashOcc's, and what comes on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, StateSpec
from exporters.panoptic_flashocc.centres import CentreRules
from exporters.panoptic_flashocc.config import HEAD_CLASSES, PanopticConfig
from exporters.panoptic_flashocc.ports import BEV, CAMERA_VECTORS, LENGTH, MOTION, history_names

_KEEP_FLOAT = {
    "img_view_transformer/depth_net/depth_mlp": "camera values from 0.001 to 1000 side by side",
    "img_view_transformer/depth_net/context_mlp": "camera values from 0.001 to 1000 side by side",
    "aux_centerness_head/task_heads.0/reg.1": "centre offsets: a fraction of a cell decides",
    "aux_centerness_head/task_heads.0/height.1": "centre heights, metres",
    "aux_centerness_head/task_heads.0/heatmap.1": "centre scores are compared with a threshold",
}
_KEEP_FP32 = {
    "memory": "places in a map to a hundredth of a cell",
    "panoptic": "whole numbers up to 2^22, exact in FP32",
}
"""Neither quantized nor cast to 16 bits."""

_SEMANTICS = {
    CAMERA_VECTORS: "camera-vectors",
    MOTION: "ego-motion",
    LENGTH: "history-length",
}
_COMPUTED_BY = {
    CAMERA_VECTORS: "exporters.flashocc.camera_vectors.camera_vectors",
    MOTION: "exporters.panoptic_flashocc.ports.cell_motion",
}


def extend(
    spec: ModelSpec,
    config: PanopticConfig,
    rules: CentreRules,
    sample: Mapping[str, NDArray[Any]],
    *,
    logits: bool,
) -> ModelSpec:
    """``spec`` of the same network as a FlashOcc, extended.

    Args:
        sample: example inputs of the graph, in order.
    """
    known = {port.name: port for port in spec.inputs}
    inputs = tuple(known.get(name) or _input(name, value) for name, value in sample.items())
    outputs = [*spec.outputs]
    if config.centres:
        outputs += _maps(config) if logits else [_instances(spec.outputs[0])]
    states: tuple[StateSpec, ...] = ()
    if config.history:
        shape = (1, config.context, config.grid.ny, config.grid.nx)
        outputs.append(OutputSpec(BEV, "float32", shape, "state"))
        names = history_names(config.history)
        if MOTION in sample:  # offline maps are made anew for every frame
            states = tuple(StateSpec(BEV, name, age=age) for age, name in enumerate(names, start=1))
    live, moves = CAMERA_VECTORS in sample, MOTION in sample
    geometry = {**spec.geometry, "history": config.history}
    if config.centres:
        geometry["centres"] = rules.to_json()
    return dataclasses.replace(
        spec,
        family="panoptic_flashocc",
        task="panoptic-occupancy" if config.centres else "occupancy",
        inputs=inputs,
        outputs=tuple(outputs),
        states=states,
        geometry=geometry,
        keep_float={
            **spec.keep_float,
            **_applicable(_KEEP_FLOAT | _KEEP_FP32, config, live, moves),
        },
        keep_fp32=_applicable(_KEEP_FP32, config, live, moves),
    )


def _applicable(
    reasons: Mapping[str, str], config: PanopticConfig, live: bool, moves: bool
) -> dict[str, str]:
    """What stays float of the parts that this network has."""
    absent = [] if live else ["img_view_transformer/depth_net"]
    absent += [] if moves else ["memory"]
    absent += [] if config.centres else ["aux_centerness_head", "panoptic"]
    return {k: why for k, why in reasons.items() if not k.startswith(tuple(absent))}


def _input(name: str, value: NDArray[Any]) -> InputSpec:
    details = {"computed_by": _COMPUTED_BY[name]} if name in _COMPUTED_BY else {}
    if name == LENGTH:
        details["meaning"] = "past frames of this scene; maps of older ages are ignored"
    semantics = _SEMANTICS.get(name, "state")
    return InputSpec(name, value.dtype.name, value.shape, semantics, details)


def _instances(labels: OutputSpec) -> OutputSpec:
    details = {
        "axes": labels.details["axes"],
        "none": 0,
        "meaning": "1 + rank of the nearest centre of the voxel's class, by score",
    }
    # TensorRT knows no uint16, and 500 centres do not fit into uint8
    return OutputSpec("instances", "int32", labels.shape, "instance-ids", details)


def _maps(config: PanopticConfig) -> list[OutputSpec]:
    size = (config.grid.ny, config.grid.nx)
    cell_m = [config.grid.x[2], config.grid.y[2]]
    return [
        OutputSpec("reg", "float32", (1, 2, *size), "centre-offsets", {"cell_m": cell_m}),
        OutputSpec("height", "float32", (1, 1, *size), "centre-heights", {"unit": "m"}),
        OutputSpec(
            "heatmap",
            "float32",
            (1, len(HEAD_CLASSES), *size),
            "centre-logits",
            {"classes": list(HEAD_CLASSES)},
        ),
    ]
