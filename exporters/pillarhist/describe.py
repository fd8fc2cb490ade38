"""The self-description of a pillar detector's model file."""

from __future__ import annotations

from typing import Any

from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, WeightsSource
from exporters.pillarhist.config import Config, Histogram
from exporters.pillarhist.options import ExportOptions
from exporters.versions import tool_versions

FILL = -10_000.0

KEEP_FLOAT = {
    "boxes": "places in metres and angles: eight bits of 70 m are 27 cm",
    "rows": "overlaps of boxes: thresholds decide",
    "dense_head/conv_cls": "class logits: their order decides which boxes there are",
    "dense_head/conv_box": "box terms: an error of theirs is one of the box",
    "dense_head/conv_dir_cls": "front or back: a difference of two logits",
}
_OUTPUT_BRANCHES = ("center", "center_z", "dim", "rot", "vel", "hm")
_FLOAT_PFN = (
    "inputs mix metres with centimetres: one scale for all leaves some of them no step at all"
)


def describe(
    variant: str, config: Config, options: ExportOptions, weights: WeightsSource
) -> ModelSpec:
    """What the model file says of itself."""
    return ModelSpec(
        variant=variant,
        family="pillarhist",
        task="detection",
        inputs=(_points(config, options),),
        outputs=(_boxes(config, options),),
        weights=weights,
        classes=config.classes,
        geometry={"network": config.to_json(), "nms": options.nms},
        tools=tool_versions("torch", "onnxscript", "onnx", "onnx-ir"),
        keep_float=keep_float(config),
    )


def keep_float(config: Config) -> dict[str, str]:
    """Node name prefix to reason, for this network's heads and encoder."""
    kept = dict(KEEP_FLOAT)
    tasks = len(getattr(config.head, "tasks", ()))
    for task in range(tasks):
        for branch in _OUTPUT_BRANCHES:
            name = f"dense_head/heads_list.{task}/{branch}/1"
            kept[name] = "what boxes are read from: see boxes"
    if not isinstance(config.encoder, Histogram):
        kept["vfe"] = _FLOAT_PFN
    return kept


def _points(config: Config, options: ExportOptions) -> InputSpec:
    grid = config.grid
    details: dict[str, Any] = {
        "columns": list(config.columns),
        "units": ["m", "m", "m", f"0 to {config.intensity_max:g}", "s"][: len(config.columns)],
        "fill": FILL,
        "range": [*grid.low, *grid.high],
        "intensity_max": config.intensity_max,
        "surplus": options.surplus,
        "view": config.view,
    }
    if isinstance(config.encoder, Histogram):
        details |= {"cell": list(grid.cell), "pillars": config.encoder.rows(config.rows)}
    if "time" in config.columns:
        details["sweeps"] = 10
    shape = (config.rows, len(config.columns))
    return InputSpec("points", "float32", shape, "points", details)


def _boxes(config: Config, options: ExportOptions) -> OutputSpec:
    columns = [*config.box_columns, "score", "class"]
    details = {
        "columns": columns,
        "order": "best score first; rows that are no box have score 0 and class -1",
        "yaw": "radians from x to y",
        "nms": options.nms,
        "iou": config.head.iou,
        "score": config.head.score,
    }
    return OutputSpec("boxes", "float32", (config.boxes, len(columns)), "boxes", details)
