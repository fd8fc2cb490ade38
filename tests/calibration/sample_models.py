"""Self-descriptions of models that take samples, and samples for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from exporters.flashocc.config import NANO, NUSCENES_CAMERAS, OCC3D_CLASSES
from exporters.flashocc.preprocess import describe_geometry
from exporters.flashocc.rig import Rig
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, WeightsSource


def camera_spec(rig: Rig | None = None, **changes: Any) -> ModelSpec:
    """A small occupancy model for six cameras; ``rig`` baked in where given."""
    size = NANO.view.image_size
    details = {"cameras": list(NUSCENES_CAMERAS), "image_size": list(size)}
    values: dict[str, Any] = {
        "variant": "flashocc-nano",
        "family": "flashocc",
        "task": "occupancy",
        "inputs": (InputSpec("images", "uint8", (6, *size, 3), "camera-images", details),),
        "outputs": (OutputSpec("labels", "uint8", (40, 40, 4), "occupancy-labels"),),
        "weights": WeightsSource("random", seed=0),
        "classes": OCC3D_CLASSES,
        "geometry": describe_geometry(NANO.view, NANO.grid, rig=rig),
    }
    return ModelSpec(**{**values, **changes})


def plain_spec() -> ModelSpec:
    """A model with two plain inputs, one of a dynamic size."""
    return camera_spec(
        variant="plain",
        inputs=(
            InputSpec("x", "float32", (2, 3)),
            InputSpec("tokens", "int64", (1, "length"), "token-ids"),
        ),
        geometry={},
    )


def plain_sample(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((2, 3)).astype(np.float32),
        "tokens": rng.integers(0, 9, (1, 4)),
        "label.y": rng.integers(0, 2, (5,)).astype(np.uint8),
    }
