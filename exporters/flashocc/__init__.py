"""FlashOcc: occupancy of the space around a vehicle from its cameras (arXiv:2311.12058).

A network of plain 2-D convolutions: features of each camera are lifted into a bird's-eye view by
predicted depth, and height becomes channels at the very end. This package exports the single-frame
networks (M0, M1 and other widths) to model files without plugins.
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

VARIANTS = (
    Variant(
        name="flashocc-m0",
        family="flashocc",
        task="occupancy",
        summary="ResNet-50, 6 cameras at 256x704, 44 depth bins, 200x200x16 voxels, 18 classes",
        published={
            "parameters_m": 39.94,
            "multiply_adds_g": 154.1,
            "miou_percent": 31.95,
            "fps_rtx3090_fp16": 197.6,
            "source": "FlashOCC README (Occ3D-nuScenes, camera mask)",
        },
    ),
    Variant(
        name="flashocc-m1",
        family="flashocc",
        task="occupancy",
        summary="as m0 with 88 depth bins and twice the BEV channels",
        published={
            "parameters_m": 44.74,
            "multiply_adds_g": 248.57,
            "miou_percent": 32.08,
            "fps_rtx3090_fp16": 152.7,
            "source": "FlashOCC README (Occ3D-nuScenes, camera mask)",
        },
    ),
    Variant(
        name="flashocc-mini",
        family="flashocc",
        task="occupancy",
        summary="a twentieth of m0's weights, 6 cameras at 192x512, 200x200x16 voxels, 18 classes",
    ),
    Variant(
        name="flashocc-nano",
        family="flashocc",
        task="occupancy",
        summary="the same architecture at 64x176 and 40x40x4 voxels, for trying and testing",
    ),
    Variant(
        name="flashocc",
        family="flashocc",
        task="occupancy",
        summary="any single-frame FlashOcc checkpoint: widths are recognised from its shapes",
    ),
)


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a FlashOcc model file.

    The same inputs give the same bytes. Before the file is written its graph is compared with
    eager PyTorch on given or generated inputs.

    Args:
        variant: a name of ``VARIANTS``.
        output: the file to write.
        progress: called as ``progress(step, done, total)``.
        options: fields of ``exporters.flashocc.options.ExportOptions``: ``checkpoint``, ``rig``,
            ``input``, ``logits``, ``seed``, ``image_size``, ``cameras``, ``depth``, ``grid``,
            ``classes``, ``samples``, ``overwrite``.

    Returns:
        The model file and a report: ``checkpoint`` (what became of every key), ``agreement`` with
        PyTorch, ``pooling``, ``parameters``, ``notes`` and ``seconds`` by step.

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
    from exporters.flashocc import exporter

    return exporter.export(variant, output, progress=progress, **options)


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The inputs of a FlashOcc model file for one camera frame; see ``preprocess.prepare``."""
    from exporters.flashocc import preprocess

    return preprocess.prepare(frame, spec)


def rig_mismatch(rig: Rig, spec: ModelSpec) -> float:
    """How far ``rig`` is from the baked one, 0 to 1; see ``preprocess.rig_mismatch``."""
    from exporters.flashocc import preprocess

    return preprocess.rig_mismatch(rig, spec)
