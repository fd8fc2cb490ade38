"""Panoptic-FlashOcc: occupancy with instances, from cameras, over time (arXiv:2406.10527).

FlashOcc with a depth net that knows its cameras, a head that finds the centres of instances and a
memory of past BEV maps. The networks are in ``model``, their widths in ``config``::

    network = PanopticFlashOcc(MINI, make_pooling(tables))
    logits, centres = network(images)      # [nx, ny, nz, classes]; reg, height, heatmap

``panoptic-flashocc-mini`` is ``flashocc-mini`` with a centre head, under the same parameter names:
trained once, its weights without ``aux_centerness_head.*`` are those of ``flashocc-mini``.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError
from exporters.variants import ExportResult, Progress, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from exporters.flashocc.rig import CameraFrame, Rig
    from exporters.modelfile import ModelSpec

__all__ = ["VARIANTS", "export", "prepare", "rig_mismatch"]

_REQUIRED = ("torch", "onnxscript", "safetensors")
_README = "FlashOCC README (Occ3D-nuScenes, trained without mask)"


def _variant(name: str, summary: str, task: str, **published: float) -> Variant:
    said = {**published, "source": _README} if published else {}
    return Variant(f"panoptic-flashocc{name}", "panoptic_flashocc", task, summary, said)


def _with_instances(name: str, summary: str, **published: float) -> Variant:
    return _variant(name, summary, "panoptic-occupancy", **published)


def _semantic(name: str, summary: str, **published: float) -> Variant:
    return _variant(name, summary, "occupancy", **published)


VARIANTS = (
    _semantic(
        "-tiny",
        "ResNet-50, 6 cameras at 256x704, 44 depth bins, depth net that knows its cameras",
        parameters_m=45.32,
        multiply_adds_g=175.0,
        miou_percent=28.83,
        ray_iou_percent=34.57,
        fps_a100_pytorch=43.9,
    ),
    _with_instances(
        "-tiny-pano",
        "tiny with instances",
        miou_percent=29.14,
        ray_iou_percent=34.81,
        ray_pq_percent=12.9,
        fps_a100_pytorch=39.8,
    ),
    _semantic(
        "-depth",
        "as tiny with 88 depth bins and twice the BEV channels",
        miou_percent=28.91,
        ray_iou_percent=34.93,
        fps_a100_pytorch=38.7,
    ),
    _with_instances(
        "-depth-pano",
        "depth with instances",
        miou_percent=29.39,
        ray_iou_percent=35.22,
        ray_pq_percent=13.2,
        fps_a100_pytorch=35.2,
    ),
    _semantic(
        "-4d",
        "as depth, with the frame before",
        miou_percent=29.57,
        ray_iou_percent=35.99,
        fps_a100_pytorch=35.9,
    ),
    _with_instances(
        "-4d-pano",
        "4d with instances",
        miou_percent=30.31,
        ray_iou_percent=36.76,
        ray_pq_percent=14.5,
        fps_a100_pytorch=30.4,
    ),
    _semantic(
        "-8f",
        "as depth, with a memory of 8 frames",
        miou_percent=31.49,
        ray_iou_percent=38.51,
        fps_a100_pytorch=35.6,
    ),
    _with_instances(
        "-8f-pano",
        "8f with instances",
        miou_percent=31.57,
        ray_iou_percent=38.5,
        ray_pq_percent=16.0,
        fps_a100_pytorch=30.2,
    ),
    _semantic(
        "-16f",
        "as depth, with a memory of 16 frames",
        miou_percent=31.55,
        ray_iou_percent=38.31,
    ),
    _with_instances(
        "-16f-pano",
        "16f with instances",
    ),
    _with_instances(
        "-mini",
        "flashocc-mini with instances",
    ),
    _with_instances(
        "-nano",
        "flashocc-nano with instances, for trying and testing",
    ),
    _with_instances(
        "",
        "any Panoptic-FlashOcc checkpoint: widths are recognised from its shapes",
    ),
)


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a Panoptic-FlashOcc model file.

    The same inputs give the same bytes. Before the file is written its graph is compared with
    eager PyTorch, and its instances with a numpy form, on given or generated inputs.

    Args:
        variant: a name of ``VARIANTS``.
        output: the file to write.
        progress: called as ``progress(step, done, total)``.
        options: fields of ``exporters.panoptic_flashocc.options.PanopticOptions``: those of
            FlashOcc and ``class_map``, ``max_centres``, ``score_threshold``, ``thing_voxels``.

    Returns:
        The model file and a report, as ``exporters.flashocc.export``.

    Raises:
        UserError: bad option, checkpoint, rig or output.
        MissingRequirementError: torch is not installed.
        EdgeportError: the exported graph does not compute what the network computes; our bug.
    """
    for name in _REQUIRED:
        if find_spec(name) is None:
            raise MissingRequirementError(
                f"{name} is not installed; exporting needs it", fix="pip install 'edgeport[export]'"
            )
    from exporters.panoptic_flashocc import exporter

    return exporter.export(variant, output, progress=progress, **options)


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The inputs of a model file for one camera frame, without states; see ``preprocess``."""
    from exporters.panoptic_flashocc import preprocess

    return preprocess.prepare(frame, spec)


def rig_mismatch(rig: Rig, spec: ModelSpec) -> float:
    """How far ``rig`` is from the baked one, 0 to 1; as for FlashOcc."""
    from exporters.flashocc import preprocess

    return preprocess.rig_mismatch(rig, spec)
