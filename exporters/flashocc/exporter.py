"""Checkpoint to model file: the steps of a FlashOcc export, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.checkpoints import MappingReport, load_strict
from exporters.errors import EdgeportError
from exporters.files import require_writable
from exporters.flashocc.agreement import compare
from exporters.flashocc.camera_resize import CameraResize
from exporters.flashocc.config import Config
from exporters.flashocc.describe import describe
from exporters.flashocc.geometry import cell_indices
from exporters.flashocc.inference import InferenceModel, InputKind
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.pooling import Capacity, choose_tables, column_tables, room_for
from exporters.flashocc.pooling_torch import TablePooling, make_pooling
from exporters.flashocc.preprocess import camera_size, normalise
from exporters.flashocc.random_weights import generated_images, initialise
from exporters.flashocc.rig import Rig
from exporters.flashocc.source import Source
from exporters.flashocc.weights import find_source
from exporters.modelfile import WeightsSource, save_model
from exporters.trace import trace
from exporters.variants import ExportResult, Progress

Array = NDArray[Any]


@dataclass(frozen=True)
class Geometry:
    """How a rig enters the graph.

    Attributes:
        pooling: torch module with the tables baked in, or waiting for them.
        tables: values of the rig inputs for ``rig``; empty where it is baked in.
        capacity: sizes of the rig inputs; None where the rig is baked in.
        reason: which form pooling took and why.
    """

    rig: Rig
    pooling: nn.Module
    tables: Mapping[str, Array]
    capacity: Capacity | None
    reason: str

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(table) for table in self.tables.values())


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a FlashOcc model file; see ``exporters.flashocc.export``."""
    chosen = ExportOptions.parse(options)
    require_writable(output, overwrite=chosen.overwrite)
    steps = Steps(progress)
    with steps.step("read"):
        source = find_source(variant, chosen)
    with steps.step("geometry"):
        geometry = make_geometry(source.config, chosen)
    with steps.step("weights"):
        network, mapping = build_network(source, geometry)
        samples = list(chosen.samples or [generated_sample(source.config, geometry, chosen)])
    with steps.step("trace"):
        kind = cast("InputKind", chosen.input)
        resize = make_resize(source.config, geometry.rig, chosen)
        model = InferenceModel(network, inputs=kind, logits=chosen.logits, resize=resize)
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in samples[0].items()}
        proto = trace(model, inputs, ["logits" if chosen.logits else "labels"])
    with steps.step("compare"):
        view = source.config.view if chosen.takes_pictures else None
        agreement = compare(network, proto, samples, resize_to=view)
        if not agreement.holds:
            raise EdgeportError(f"the exported graph does not agree with PyTorch: {agreement}")
    with steps.step("write"):
        spec = describe(
            source.variant,
            source.config,
            geometry.rig,
            chosen,
            source.origin,
            tables=geometry.tables,
            capacity=geometry.capacity,
            pooling=geometry.reason,
        )
        file = save_model(proto, output, spec=spec, overwrite=chosen.overwrite)
    report = export_report(source, geometry, chosen, network, mapping)
    return ExportResult(
        file, {**report, "agreement": agreement.to_json(), "seconds": steps.seconds}
    )


def make_geometry(config: Config, options: ExportOptions) -> Geometry:
    """Tables of the chosen rig, baked into a pooling module or to be fed to it."""
    rig = options.given_rig
    cells = cell_indices(rig, config.view, config.grid)
    if not options.takes_rig:
        tables = choose_tables(cells, config.grid, rig.names)
        return Geometry(rig, make_pooling(tables), {}, None, tables.reason)
    capacity = room_for(rig, config.view, config.grid)
    fed = column_tables(cells, config.grid, capacity, rig.names).named()
    pooling = TablePooling(capacity, (config.grid.ny, config.grid.nx))
    reason = f"column form with tables as inputs: room for {capacity.groups} groups an image column"
    return Geometry(rig, pooling, fed, capacity, reason)


def make_resize(config: Config, rig: Rig, options: ExportOptions) -> CameraResize | None:
    """From the rig's pictures to the network's, where the graph is to do it.

    Raises:
        UserError: cameras of different sizes.
    """
    if not options.takes_pictures:
        return None
    return CameraResize(camera_size(rig), config.view)


def build_network(
    source: Source[Config], geometry: Geometry
) -> tuple[FlashOcc, MappingReport | None]:
    """The trained network in eval mode, and what became of the checkpoint's keys."""
    network = FlashOcc(source.config, geometry.pooling).eval()
    if source.named is not None:
        return network, load_strict(network, source.named)
    initialise(
        network,
        source.config,
        cameras=len(geometry.rig),
        seed=source.seed,
        logits_of=lambda images: network(images, *geometry.tensors),
    )
    return network, None


def generated_sample(
    config: Config, geometry: Geometry, options: ExportOptions
) -> dict[str, Array]:
    """Inputs of the model from seeded generated images (other ones than random weights saw)."""
    size = camera_size(geometry.rig) if options.takes_pictures else config.view.image_size
    images: Array = generated_images(len(geometry.rig), size, options.seed + 1)
    if options.input == "float":
        images = normalise(images)
    return {"images": images, **geometry.tables}


def export_report(
    source: Source[Any],
    geometry: Geometry,
    options: ExportOptions,
    network: nn.Module,
    mapping: MappingReport | None,
) -> dict[str, Any]:
    """What every export of the family says of itself; the agreement comes beside it."""
    return {
        "variant": source.variant,
        "weights": str(source.origin),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "checkpoint": mapping.to_json() if mapping else None,
        "pooling": geometry.reason,
        "notes": _notes(source.origin, options, mapping),
    }


def _notes(
    origin: WeightsSource, options: ExportOptions, mapping: MappingReport | None
) -> tuple[str, ...]:
    """What a person should know before believing a number of this model."""
    notes = str(mapping).splitlines() if mapping else []
    if mapping is None:
        notes.append(f"{origin}: labels of this model mean nothing")
    if options.rig_is_synthetic and not options.takes_rig:
        notes.append(
            "synthetic rig baked in: for real images export with --rig FILE or --rig input"
        )
    return tuple(notes)


class Steps:
    """Reports progress and takes the time, step by step."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        if self._progress:
            self._progress(name, 0, 1)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        if self._progress:
            self._progress(name, 1, 1)
