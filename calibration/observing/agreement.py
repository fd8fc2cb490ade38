"""The canonical form is run beside the file it was made from, on a real sample.

Raising the opset, writing functions out, evaluating constants and folding batch norms must not
change what a model computes. Whether they did is measured before anything is built on them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.prepare import changes_of
from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.samples.base import Array, Samples
from exporters.errors import UserError
from exporters.modelfile import ModelFile, save_model

if TYPE_CHECKING:
    import onnx_ir as ir

LEAST_SQNR_DB = 60.0
"""Float32 sums in another order stay above 90 dB in the deepest networks we know; a wrong
conversion ends far below."""

LEAST_EQUAL = 0.99
"""Share of equal values in an integer output: labels flip where two scores tie."""

_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform")


def agreement(model: ir.Model, file: ModelFile, samples: Samples | None) -> dict[str, Any]:
    """What was done to ``file``, and by how much that moved its outputs on the first sample.

    Returns:
        ``changes`` in words; ``largest_difference``, over the largest value, where there were
        changes and a sample to run.

    Raises:
        UserError: the two differ by more than rounding, or the sample does not fit.
    """
    changes = changes_of(model)
    report: dict[str, Any] = {"changes": changes}
    random = any(node.op_type.startswith(_RANDOM) for node in model.graph.all_nodes())
    if not changes or samples is None or random:
        return report
    _, feeds = next(checked_feeds(samples, expected_inputs(model.graph, file.spec)))
    names = [output.name or "" for output in model.graph.outputs]
    with tempfile.TemporaryDirectory() as folder:
        import onnx_ir as ir

        before = _run(_loadable(file, Path(folder)), feeds, names, str(file.path))
        path = Path(folder) / "prepared.onnx"
        ir.save(model, path, external_data="weights")
        after = _run(path, feeds, names, f"the canonical form of {file.path}")
    worst = 0.0
    for name, old, new in zip(names, before, after, strict=True):
        why, difference = _difference(old, new)
        if why:
            raise UserError(
                f"output {name!r} of {file.path} {why} once its canonical form is made: "
                f"{', '.join(changes)}",
                fix="Export it with opset 17, batch norms folded and without functions",
            )
        worst = max(worst, difference)
    return {**report, "largest_difference": worst}


def _loadable(file: ModelFile, folder: Path) -> Path:
    """The file, or a copy without node names: ONNX Runtime refuses names that come twice."""
    import onnx

    names = [node.name for node in file.proto.graph.node if node.name]
    if len(set(names)) == len(names):
        return file.path
    copy = onnx.ModelProto()
    copy.CopyFrom(file.proto)
    for node in copy.graph.node:
        node.ClearField("name")
    return save_model(copy, folder / "nameless.onnx").path


def _run(path: Path, feeds: Mapping[str, Array], names: list[str], what: str) -> list[Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        results: list[Any] = session.run(names, dict(feeds))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise UserError(
            f"ONNX Runtime cannot run {what}: {str(error).splitlines()[0]}",
            fix="Export it with opset 17 and standard operators",
        ) from error
    return results


def _difference(old: Any, new: Any) -> tuple[str, float]:
    """Why two outputs are not the same, if they are not; the largest difference, relative."""
    if not isinstance(old, np.ndarray) or not isinstance(new, np.ndarray):
        return "", 0.0  # a sequence or a map: nothing here changes those
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"changes from {old.dtype} {old.shape} to {new.dtype} {new.shape}", 0.0
    if not old.size:
        return "", 0.0
    if not np.issubdtype(old.dtype, np.floating):
        equal = float((old == new).mean())
        return (f"differs in {1 - equal:.1%} of its values" if equal < LEAST_EQUAL else ""), 0.0
    finite = np.isfinite(old)
    if not np.array_equal(finite, np.isfinite(new)):
        return "becomes infinite or NaN elsewhere", 0.0
    a, b = old[finite].astype(np.float64), new[finite].astype(np.float64)
    noise = float(np.square(a - b).sum())
    if not noise:
        return "", 0.0
    sqnr_db = 10 * np.log10(max(float(np.square(a).sum()), 1e-300) / noise)
    if sqnr_db < LEAST_SQNR_DB:
        return f"differs from the file's by {sqnr_db:.1f} dB", 0.0
    return "", float(np.abs(a - b).max() / np.abs(a).max())
