"""The self-description of a FlashOcc model file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from exporters.flashocc.config import PLANE_MEAN, PLANE_STD, Config
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.pooling import Capacity
from exporters.flashocc.preprocess import camera_size, describe_geometry
from exporters.flashocc.rig import Rig
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, WeightsSource
from exporters.versions import tool_versions

KEEP_FLOAT = {
    "camera_input": "8-bit images become float here; quantizing them again only adds error",
    "camera_input/resize": "whole numbers up to 2^24, as exact as Pillow's; FP32 holds them",
    "img_view_transformer/depth_softmax": "depth probabilities span many orders of magnitude",
    "img_view_transformer/pooling": "sums of up to hundreds of products, and pure data movement",
    "occ_head/predicter.2": "class logits: their small differences decide the label",
}
"""Node name prefixes that the quantizer leaves alone unless asked, and why."""


def describe(
    variant: str,
    config: Config,
    rig: Rig,
    options: ExportOptions,
    weights: WeightsSource,
    *,
    tables: Mapping[str, NDArray[Any]],
    capacity: Capacity | None,
    pooling: str,
) -> ModelSpec:
    """What the model file says of itself.

    Args:
        tables, capacity: example values and sizes of the rig inputs; empty and None where the rig
            is baked in.
        pooling: which form pooling took and why.
    """
    geometry = describe_geometry(
        config.view,
        config.grid,
        rig=None if options.takes_rig else rig,
        capacity=capacity,
        pooling=pooling,
    )
    geometry |= {"network": config.network_json(), "rig_is_synthetic": options.rig_is_synthetic}
    if not options.takes_rig:
        geometry["rig_sha256"] = rig.sha256
    return ModelSpec(
        variant=variant,
        family="flashocc",
        task="occupancy",
        inputs=(_images(config, rig, options), *(_table(*item) for item in tables.items())),
        outputs=(_output(config, logits=options.logits),),
        weights=weights,
        classes=config.classes,
        geometry=geometry,
        tools=tool_versions("torch", "onnxscript", "onnx", "onnx-ir"),
        keep_float=_keep_float(options),
    )


def _keep_float(options: ExportOptions) -> dict[str, str]:
    """``KEEP_FLOAT`` without the parts that this model does not have."""
    resizes = options.takes_pictures
    return {k: why for k, why in KEEP_FLOAT.items() if resizes or not k.endswith("/resize")}


def _images(config: Config, rig: Rig, options: ExportOptions) -> InputSpec:
    size = config.view.image_size
    details: dict[str, Any] = {
        "cameras": list(rig.names),
        "image_size": list(size),
        "resize": "PIL bicubic antialias to the network's width, then crop to the lowest rows",
    }
    if options.takes_pictures:
        pictures = camera_size(rig)
        details |= {"layout": "NHWC", "color_order": "RGB", "range": [0, 255]}
        details |= {"camera_size": list(pictures), "resize": f"in the graph: {details['resize']}"}
        return InputSpec("images", "uint8", (len(rig), *pictures, 3), "camera-images", details)
    if options.input == "uint8":
        details |= {"layout": "NHWC", "color_order": "RGB", "range": [0, 255]}
        return InputSpec("images", "uint8", (len(rig), *size, 3), "camera-images", details)
    details |= {
        "layout": "NCHW",
        "color_order": "BGR",
        "mean": list(PLANE_MEAN),
        "std": list(PLANE_STD),
    }
    return InputSpec("images", "float32", (len(rig), 3, *size), "camera-images", details)


def _table(name: str, value: NDArray[Any]) -> InputSpec:
    details = {"computed_by": "exporters.flashocc.preprocess.rig_tables"}
    return InputSpec(name, value.dtype.name, value.shape, "rig-table", details)


def _output(config: Config, *, logits: bool) -> OutputSpec:
    grid = config.grid
    shape = (grid.nx, grid.ny, grid.nz_out)
    details: dict[str, Any] = {
        "axes": ["x", "y", "z"],
        "free_class": config.free_class,
        "voxel_m": [grid.x[2], grid.y[2], grid.z_out[2]],
        "origin_m": [grid.x[0], grid.y[0], grid.z_out[0]],
    }
    if not logits:
        return OutputSpec("labels", "uint8", shape, "occupancy-labels", details)
    details["axes"].append("class")
    return OutputSpec(
        "logits", "float32", (*shape, len(config.classes)), "occupancy-logits", details
    )
