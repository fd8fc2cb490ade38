"""Checkpoint to model file: the steps of a Panoptic-FlashOcc export, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporters.checkpoints import MappingReport, load_strict
from exporters.errors import EdgeportError
from exporters.files import require_writable
from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.config import Config
from exporters.flashocc.describe import describe
from exporters.flashocc.exporter import (
    Geometry,
    Steps,
    export_report,
    generated_sample,
    make_geometry,
    make_resize,
)
from exporters.flashocc.inference import CameraInput, InputKind
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.preprocess import resize_and_crop
from exporters.flashocc.source import Source
from exporters.modelfile import ModelSpec, save_model
from exporters.panoptic_flashocc.agreement import compare
from exporters.panoptic_flashocc.config import PanopticConfig
from exporters.panoptic_flashocc.describe import extend
from exporters.panoptic_flashocc.inference import PanopticInference
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from exporters.panoptic_flashocc.options import PanopticOptions
from exporters.panoptic_flashocc.ports import (
    CAMERA_VECTORS,
    LENGTH,
    MOTION,
    history_names,
    output_names,
)
from exporters.panoptic_flashocc.random_weights import initialise
from exporters.panoptic_flashocc.weights import find_source
from exporters.trace import trace
from exporters.variants import ExportResult, Progress

Array = NDArray[Any]


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a model file; see ``exporters.panoptic_flashocc.export``."""
    chosen = PanopticOptions.parse(options)
    require_writable(output, overwrite=chosen.overwrite)
    steps = Steps(progress)
    with steps.step("read"):
        source = find_source(variant, chosen)
        config, rules = source.config, chosen.rules(source.config)
    with steps.step("geometry"):
        geometry = make_geometry(config, chosen)
        vectors = camera_vectors(geometry.rig, config.view)
    with steps.step("weights"):
        network, mapping = build_network(source, geometry)
        samples = list(chosen.samples or [generated(network, config, geometry, chosen)])
    resize = make_resize(config, geometry.rig, chosen)
    with steps.step("trace"):
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in samples[0].items()}
        baked = CAMERA_VECTORS not in inputs
        model = PanopticInference(
            network,
            config,
            rules,
            tuple(inputs),
            inputs=cast("InputKind", chosen.input),
            cameras=torch.from_numpy(vectors) if baked else None,
            logits=chosen.logits,
            resize=resize,
        )
        proto = trace(model, inputs, output_names(config, logits=chosen.logits))
    with steps.step("compare"):
        planes = planes_of(config, chosen)
        agreement = compare(network, config, rules, proto, samples, planes, vectors)
        if not agreement.holds:
            raise EdgeportError(f"the exported graph does not agree with PyTorch: {agreement}")
    with steps.step("write"):
        spec = extend(
            _as_flashocc(source, geometry, chosen), config, rules, samples[0], logits=chosen.logits
        )
        file = save_model(proto, output, spec=spec, overwrite=chosen.overwrite)
    report = export_report(source, geometry, chosen, network, mapping)
    return ExportResult(
        file, {**report, "agreement": agreement.to_json(), "seconds": steps.seconds}
    )


def build_network(
    source: Source[PanopticConfig], geometry: Geometry
) -> tuple[PanopticFlashOcc, MappingReport | None]:
    """The trained network in eval mode, and what became of the checkpoint's keys."""
    network = PanopticFlashOcc(source.config, geometry.pooling).eval()
    if source.named is not None:
        return network, load_strict(network, source.named)
    vectors = torch.from_numpy(camera_vectors(geometry.rig, source.config.view))
    initialise(network, source.config, cameras=vectors, seed=source.seed, tables=geometry.tensors)
    return network, None


def generated(
    network: PanopticFlashOcc, config: PanopticConfig, geometry: Geometry, options: PanopticOptions
) -> dict[str, Array]:
    """Inputs of the graph in order: generated images, and a vehicle that drives a curve.

    Past maps are the network's own map of these images, moved by a few cells.
    """
    images = generated_sample(config, geometry, options)
    sample: dict[str, Array] = {"images": images.pop("images")}
    if config.camera_aware and options.takes_rig:
        sample[CAMERA_VECTORS] = camera_vectors(geometry.rig, config.view)
    sample |= images
    if not config.history:
        return sample
    vectors = torch.from_numpy(camera_vectors(geometry.rig, config.view))
    with torch.no_grad():
        planes = planes_of(config, options)(sample["images"])
        bev = network.bev_map(planes, *geometry.tensors, cameras=vectors).numpy()
    past = _past(bev, config)
    if options.history == "offline":
        del past[MOTION]
    return sample | past


def _past(bev: Array, config: PanopticConfig) -> dict[str, Array]:
    names = history_names(config.history)
    maps = {name: np.roll(bev, 2 * age, axis=-1) for age, name in enumerate(names, start=1)}
    ages = np.arange(1, config.history + 1)
    angle = 0.02 * ages
    motion = np.zeros((config.history, 2, 3), np.float32)
    motion[:, 0, 0] = motion[:, 1, 1] = np.cos(angle)
    motion[:, 1, 0], motion[:, 0, 1] = np.sin(angle), -np.sin(angle)
    motion[:, :, 2] = 1.7 * ages[:, None]
    return {MOTION: motion, LENGTH: np.array([config.history], np.int32), **maps}


def planes_of(config: Config, options: ExportOptions) -> Callable[[Array], Tensor]:
    """From the images of a sample to the planes that the network was trained with."""

    def planes(images: Array) -> Tensor:
        if options.takes_pictures:
            images = np.stack([resize_and_crop(picture, config.view) for picture in images])
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        result: Tensor = tensor if options.input == "float" else CameraInput()(tensor)
        return result

    return planes


def _as_flashocc(
    source: Source[PanopticConfig], geometry: Geometry, options: PanopticOptions
) -> ModelSpec:
    return describe(
        source.variant,
        source.config,
        geometry.rig,
        options,
        source.origin,
        tables=geometry.tables,
        capacity=geometry.capacity,
        pooling=geometry.reason,
    )
