"""FlashOcc M2 and M3: depth from two pictures of each camera, the latest and the one before.

FlashOcc (arXiv:2311.12058) with a DepthNet that also sees a cost volume (BEVStereo,
arXiv:2209.10248) and with the BEV map of the frame before. M3 has a Swin Transformer in place of
the ResNet and pictures of twice the side.
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
        name="flashocc-m2",
        family="stereo_flashocc",
        task="occupancy",
        summary="ResNet-50, 256x704, stereo with the frame before, 88 depth bins by a factor",
        published={
            "miou_percent": 37.84,
            "source": "FlashOCC README (Occ3D-nuScenes, camera mask)",
        },
    ),
    Variant(
        name="flashocc-m3",
        family="stereo_flashocc",
        task="occupancy",
        summary="Swin-B, 512x1408, stereo with the frame before, 88 depth bins",
        published={
            "parameters_m": 144.99,
            "multiply_adds_g": 1490.77,
            "miou_percent": 43.52,
            "source": "FlashOCC README (Occ3D-nuScenes, camera mask)",
        },
    ),
)


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write the model file of a stereo FlashOcc.

    Args:
        variant: a name of ``VARIANTS``.
        output: the file to write.
        progress: called as ``progress(step, done, total)``.
        options: those of ``exporters.flashocc.export``.

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
    from exporters.stereo_flashocc import exporter

    return exporter.export(variant, output, progress=progress, **options)


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """The inputs of a model file for one camera frame, without states; see ``preprocess``."""
    from exporters.stereo_flashocc import preprocess

    return preprocess.prepare(frame, spec)


def rig_mismatch(rig: Rig, spec: ModelSpec) -> float:
    """How far ``rig`` is from the baked one, 0 to 1; as for FlashOcc."""
    from exporters.flashocc import preprocess

    return preprocess.rig_mismatch(rig, spec)
