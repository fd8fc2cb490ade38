"""How well the miniatures see: scores on scenes that no training frame is from, beside guesses.

    python -m training.scores --work RUN -o docs/results.json

Two guesses know only how often classes are where: the commonest class at each height, and the
commonest class of every single voxel, counted over visible voxels of training frames. Model files
run in ONNX Runtime, as exported by default.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.samples import open_samples
from calibration.samples.base import inputs_of
from deploy.metrics.occupancy_metrics import OCCUPANCY_METRICS
from deploy.metrics.task import SummedMetric
from exporters import export
from exporters.files import sha256_file, write_text
from exporters.flashocc.config import MINI
from exporters.modelfile import ModelFile
from exporters.versions import tool_versions
from training.scenes import Scenes

Labels = NDArray[np.uint8]

VARIANTS = {
    "flashocc-mini": ("miou", "rayiou"),
    "panoptic-flashocc-mini": ("miou", "rayiou", "raypq"),
}
SOURCES = ("synthetic:24:9000", "synthetic:3x8:9000")
"""Single frames as in training; and drives, where cameras fire one after the other in motion."""

_FREE = 17


def counts_of(scenes: Scenes, frames: int) -> NDArray[np.uint32]:
    """How often each class was visible in each voxel, ``[nx, ny, nz, classes]``."""
    counts = np.zeros((200, 200, 16, 18), np.uint32)
    x, y, z = np.ogrid[:200, :200, :16]
    for index in range(frames):
        frame = scenes[index]
        counts[x, y, z, frame["semantics"]] += frame["mask_camera"]
    return counts


def guesses(counts: NDArray[np.uint32]) -> dict[str, Labels]:
    """Labels by name of the guess; free where nothing was ever seen."""
    at_height = counts.sum(axis=(0, 1)).argmax(axis=1).astype(np.uint8)
    everywhere = counts.argmax(axis=3).astype(np.uint8)
    everywhere[counts.sum(axis=3) == 0] = _FREE
    return {
        "commonest class at each height": np.broadcast_to(at_height, (200, 200, 16)).copy(),
        "commonest class of each voxel": everywhere,
    }


def judge(
    model: ModelFile, source: str, names: tuple[str, ...], guessed: Mapping[str, Labels]
) -> dict[str, Any]:
    """Percent by metric of the model and of each guess."""
    import onnxruntime as ort

    spec = model.spec
    assert spec is not None  # it was just exported
    made = [OCCUPANCY_METRICS[name](spec) for name in names]
    metrics = [metric for metric in made if isinstance(metric, SummedMetric)]
    ran = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    outputs = [item.name for item in spec.outputs]
    sums: dict[str, dict[str, tuple[SummedMetric, NDArray[np.float64]]]] = {}

    def add(who: str, key: str, metric: SummedMetric, row: NDArray[np.float64]) -> None:
        rows = sums.setdefault(who, {})
        rows[key] = (metric, row + rows[key][1] if key in rows else row)

    samples = open_samples(source, spec)
    for sample, name in zip(samples, samples.names, strict=True):
        found = dict(zip(outputs, ran.run(outputs, inputs_of(sample)), strict=True))
        for guess, labels in guessed.items():
            other = {outputs[0]: labels}
            if len(outputs) > 1:
                other[outputs[1]] = np.zeros_like(found[outputs[1]])
            for metric in metrics:
                for key, (ours, theirs) in metric.rows(found, other, sample, name).items():
                    if guess == next(iter(guessed)):
                        add("model", key, metric, ours)
                    add(guess, key, metric, theirs)
    return {
        who: {key: round(float(metric.value(row)), 2) for key, (metric, row) in rows.items()}
        | _by_class(rows, spec.classes)
        for who, rows in sums.items()
    }


def _by_class(
    rows: Mapping[str, tuple[SummedMetric, NDArray[np.float64]]], classes: tuple[str, ...]
) -> dict[str, Any]:
    counts = rows["miou"][1].reshape(len(classes), len(classes))
    hits = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hits
    iou = {n: round(100 * h / u, 2) for n, h, u in zip(classes, hits, union, strict=True) if u}
    return {"iou_by_class": iou}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="of the training run")
    parser.add_argument("--seed", type=int, default=5000, help="of the world that was trained on")
    parser.add_argument("--frames", type=int, default=512, help="that guesses are counted on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    scenes = Scenes(given.work / "cache", MINI.view, MINI.grid, given.seed, given.frames)
    scenes.render()
    guessed = guesses(counts_of(scenes, given.frames))
    result: dict[str, Any] = {
        "schema": "edgeport.training-scores/1",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": platform.machine(),
        "tools": tool_versions("torch", "onnxruntime", "numpy"),
        "unit": "percent",
        "scores": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for variant, names in VARIANTS.items():
            model = export(variant, Path(folder) / f"{variant}.onnx").model
            assert model.spec is not None  # it was just exported
            result["scores"][variant] = {
                "weights": str(model.spec.weights),
                "model_sha256": sha256_file(model.path),
                **{source: judge(model, source, names, guessed) for source in SOURCES},
            }
    write_text(given.output, json.dumps(result, indent=2) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
