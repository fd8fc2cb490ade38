"""ONNX Runtime sessions that run a model over a calibration set in little memory.

Two defaults serve a model that runs for hours, and cost a calibration memory (peak of a tapped
session over four runs, MiB: a trained FlashOcc miniature / the image branch of M0 / its BEV part):

* weights go through a file, not through two more copies as a message;
* no memory pattern, which plans one block for all taps at once: 416 / 870 / – with it;
* the arena stays. Without a pattern it grows as needed and hands out again what was freed:
  333 / 645 / 460, against 420 / 680 / 550 where every tensor is fresh memory, whose pages the
  kernel has to clear first: a fifth of the time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError

if TYPE_CHECKING:
    import onnx_ir as ir

SMALL_WEIGHT_BYTES = 1 << 24
"""Below this a file is not worth its writing."""


def lean_options() -> Any:
    """``onnxruntime.SessionOptions``; warnings about taps that share a tensor are not shown."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    return options


def open_session(model: ir.Model, options: Any | None = None) -> Any:
    """An ``onnxruntime.InferenceSession`` of ``model`` on the CPU, ``lean_options`` by default.

    Raises:
        MissingRequirementError: the temporary folder has no room for the weights.
    """
    import onnx_ir as ir
    import onnxruntime as ort

    options = options or lean_options()
    providers = ["CPUExecutionProvider"]
    if _weight_bytes(model) <= SMALL_WEIGHT_BYTES:
        return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        _save(model, path)
        return ort.InferenceSession(str(path), options, providers)


def _save(model: ir.Model, path: Path) -> None:
    import onnx_ir as ir

    try:
        ir.save(model, path, external_data="weights")
    except OSError as error:
        raise MissingRequirementError(
            f"cannot write {_weight_bytes(model) >> 20} MiB of weights below "
            f"{tempfile.gettempdir()}: {error.strerror or error}",
            fix="Free the space, or set TMPDIR to a folder that has it",
        ) from error


def _weight_bytes(model: ir.Model) -> int:
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
