"""Pillar detectors: raw LiDAR points to boxes in one file.

PointPillars and CenterPoint-Pillar with their own encoders, and with PillarHist's (CVPR 2025,
arXiv:2405.18734): a histogram of heights in place of a network over points. Voxelisation, decoding
and rotated suppression are in the graph.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError
from exporters.variants import ExportResult, Progress, Variant

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from exporters.modelfile import ModelSpec

__all__ = ["VARIANTS", "export", "prepare", "rig_mismatch"]

_REQUIRED = ("torch", "onnxscript", "safetensors")

VARIANTS = (
    Variant(
        name="pointpillars-kitti",
        family="pillarhist",
        task="detection",
        summary="432x496 pillars of 0.16 m, at most 32 points each, anchors, 3 classes",
        published={
            "parameters_m": 4.835,
            "car_ap_r11_moderate": 77.28,
            "source": "OpenPCDet model zoo (KITTI val)",
        },
    ),
    Variant(
        name="pillarhist-pointpillars-kitti",
        family="pillarhist",
        task="detection",
        summary="the same with a histogram of 64 heights in place of the point network",
    ),
    Variant(
        name="centerpoint-pillar-nuscenes",
        family="pillarhist",
        task="detection",
        summary="512x512 pillars of 0.2 m, ten sweeps, no caps, heat maps, 10 classes",
        published={
            "parameters_m": 5.989,
            "map_percent": 50.03,
            "nds_percent": 60.70,
            "source": "OpenPCDet model zoo (nuScenes val)",
        },
    ),
    Variant(
        name="pillarhist-centerpoint-nuscenes",
        family="pillarhist",
        task="detection",
        summary="the same with a histogram of 64 heights; the vehicle's own returns left out",
    ),
    Variant(
        name="pointpillars-mini",
        family="pillarhist",
        task="detection",
        summary="160x160 pillars of 0.32 m, 0.2 M parameters, trained on generated scenes",
    ),
    Variant(
        name="pillarhist-mini",
        family="pillarhist",
        task="detection",
        summary="the same with a histogram of 16 heights, trained alike",
    ),
)


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a pillar detector's model file.

    The same inputs give the same bytes. Before the file is written its boxes are compared with
    those of eager PyTorch on given or generated points.

    Args:
        variant: a name of ``VARIANTS``.
        output: the file to write.
        progress: called as ``progress(step, done, total)``.
        options: fields of ``exporters.pillarhist.options.ExportOptions``.

    Returns:
        The model file and a report: ``checkpoint`` (what became of every key), ``agreement`` with
        PyTorch, ``parameters``, ``notes`` and ``seconds`` by step.

    Raises:
        UserError: bad option, checkpoint or output.
        MissingRequirementError: torch is not installed.
        EdgeportError: the exported graph does not compute what the network computes; our bug.
    """
    for name in _REQUIRED:
        if find_spec(name) is None:
            raise MissingRequirementError(
                f"{name} is not installed; exporting needs it", fix="pip install 'edgeport[export]'"
            )
    from exporters.pillarhist import exporter

    return exporter.export(variant, output, progress=progress, **options)


def prepare(frame: NDArray[np.float32], spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The model's input for a cloud ``[n, columns]``; see ``preprocess.prepare``."""
    from exporters.pillarhist import preprocess

    return preprocess.prepare(frame, spec)


def rig_mismatch(rig: object, spec: ModelSpec) -> float:  # noqa: ARG001
    """No rig of cameras is baked in."""
    return 0.0
