"""Checkpoint to model file: the steps of an M2 or M3 export, and what the file says of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporters.checkpoints import MappingReport, load_strict
from exporters.errors import EdgeportError
from exporters.files import require_writable
from exporters.flashocc.camera_vectors import camera_vectors
from exporters.flashocc.describe import describe
from exporters.flashocc.exporter import (
    Geometry,
    Steps,
    export_report,
    generated_sample,
    make_geometry,
    make_resize,
)
from exporters.flashocc.inference import InputKind
from exporters.flashocc.options import ExportOptions
from exporters.flashocc.random_weights import initialise
from exporters.flashocc.rig import Rig
from exporters.flashocc.source import Source
from exporters.modelfile import InputSpec, ModelSpec, OutputSpec, StateSpec, save_model
from exporters.panoptic_flashocc.exporter import planes_of
from exporters.panoptic_flashocc.ports import cell_motion
from exporters.panoptic_flashocc.random_weights import take_statistics
from exporters.stereo_flashocc.agreement import compare
from exporters.stereo_flashocc.config import StereoConfig
from exporters.stereo_flashocc.cost_volume import STRIDE, CostVolume
from exporters.stereo_flashocc.inference import StereoInference
from exporters.stereo_flashocc.model import StereoFlashOcc
from exporters.stereo_flashocc.ports import (
    BEV,
    CAMERA_VECTORS,
    LENGTH,
    MOTION,
    PAST_BEV,
    PAST_STEREO,
    STEREO,
    STEREO_MOTION,
)
from exporters.stereo_flashocc.stereo_motion import stereo_motion
from exporters.stereo_flashocc.swin import WindowMSA
from exporters.stereo_flashocc.weights import find_source
from exporters.trace import trace
from exporters.variants import ExportResult, Progress

Array = NDArray[Any]

_KEEP_FP32 = {
    "memory": "places in a map to a hundredth of a cell",
    "cost_volume": "places in a picture to a hundredth of a pixel",
}
_SEMANTICS = {
    CAMERA_VECTORS: "camera-vectors",
    MOTION: "ego-motion",
    LENGTH: "history-length",
    STEREO_MOTION: "ego-motion",
}


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a model file; see ``exporters.stereo_flashocc.export``."""
    chosen = ExportOptions.parse(options)
    require_writable(output, overwrite=chosen.overwrite)
    steps = Steps(progress)
    with steps.step("read"):
        source = find_source(variant, chosen)
        config = source.config
    with steps.step("geometry"):
        geometry = make_geometry(config, chosen)
        vectors = camera_vectors(geometry.rig, config.view)
    with steps.step("weights"):
        network, mapping = build_network(source, geometry)
        samples = list(chosen.samples or [generated(network, config, geometry, chosen)])
    with steps.step("trace"):
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in samples[0].items()}
        model = StereoInference(
            network,
            config,
            tuple(inputs),
            inputs=cast("InputKind", chosen.input),
            cameras=None if CAMERA_VECTORS in inputs else torch.from_numpy(vectors),
            logits=chosen.logits,
            resize=make_resize(config, geometry.rig, chosen),
        )
        proto = trace(model, inputs, ["logits" if chosen.logits else "labels", BEV, STEREO])
    with steps.step("compare"):
        agreement = compare(network, config, proto, samples, planes_of(config, chosen), vectors)
        if not agreement.holds:
            raise EdgeportError(f"the exported graph does not agree with PyTorch: {agreement}")
    with steps.step("write"):
        spec = _describe(source, geometry, chosen, samples[0])
        file = save_model(proto, output, spec=spec, overwrite=chosen.overwrite)
    report = export_report(source, geometry, chosen, network, mapping)
    return ExportResult(
        file, {**report, "agreement": agreement.to_json(), "seconds": steps.seconds}
    )


def build_network(
    source: Source[StereoConfig], geometry: Geometry
) -> tuple[StereoFlashOcc, MappingReport | None]:
    """The trained network in eval mode, and what became of the checkpoint's keys."""
    config = source.config
    network = StereoFlashOcc(config, geometry.pooling).eval()
    if source.named is not None:
        return network, load_strict(network, source.named)
    vectors = torch.from_numpy(camera_vectors(geometry.rig, config.view))
    take_statistics(network.img_view_transformer.depth_net.bn, vectors)
    motion = torch.from_numpy(_moved(geometry.rig, config)[STEREO_MOTION])

    def logits_of(images: torch.Tensor) -> torch.Tensor:
        stereo, feature = network.see(images)
        cost = CostVolume(config.view)(stereo, stereo, motion)
        bev = network.bev_map(feature, cost, vectors, *geometry.tensors)
        return network.predict(bev, bev)

    initialise(network, config, cameras=len(vectors), seed=source.seed, logits_of=logits_of)
    generator = torch.Generator().manual_seed(source.seed)
    for module in network.modules():
        if isinstance(module, WindowMSA):
            nn.init.normal_(module.relative_position_bias_table, 0.0, 0.5, generator)
    return network, None


def generated(
    network: StereoFlashOcc, config: StereoConfig, geometry: Geometry, options: ExportOptions
) -> dict[str, Array]:
    """Inputs of the graph in order: generated images, and a vehicle that drives on.

    What was seen before is what the network sees now, moved by a few cells and pixels.
    """
    images = generated_sample(config, geometry, options)
    sample: dict[str, Array] = {"images": images.pop("images")}
    vectors = camera_vectors(geometry.rig, config.view)
    if options.takes_rig:
        sample[CAMERA_VECTORS] = vectors
    sample |= images
    moved = _moved(geometry.rig, config)
    with torch.no_grad():
        stereo, feature = network.see(planes_of(config, options)(sample["images"]))
        before = stereo.roll(2, -1)
        cost = CostVolume(config.view)(stereo, before, torch.from_numpy(moved[STEREO_MOTION]))
        bev = network.bev_map(feature, cost, torch.from_numpy(vectors), *geometry.tensors)
    past = {PAST_BEV: np.roll(bev.numpy(), 2, axis=-1), PAST_STEREO: before.numpy().copy()}
    return {**sample, **moved, LENGTH: np.ones(1, np.int32), **past}


def _moved(rig: Rig, config: StereoConfig) -> dict[str, Array]:
    """A metre ahead and a degree to the left since the frame before."""
    step = np.eye(4)
    angle = np.deg2rad(1.0)
    step[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    step[0, 3] = 1.0
    now = Rig(tuple(dataclasses.replace(c, ego2global=c.ego2global @ step) for c in rig.cameras))
    poses = [rig.cameras[0].ego2global]
    return {
        STEREO_MOTION: stereo_motion(now, rig, config.view),
        MOTION: cell_motion(now.cameras[0].ego2global, poses, config.grid, 1),
    }


def _describe(
    source: Source[StereoConfig],
    geometry: Geometry,
    options: ExportOptions,
    sample: Mapping[str, Array],
) -> ModelSpec:
    config = source.config
    spec = describe(
        source.variant,
        config,
        geometry.rig,
        options,
        source.origin,
        tables=geometry.tables,
        capacity=geometry.capacity,
        pooling=geometry.reason,
    )
    known = {port.name: port for port in spec.inputs}
    inputs = tuple(
        known.get(name) or InputSpec(name, v.dtype.name, v.shape, _SEMANTICS.get(name, "state"))
        for name, v in sample.items()
    )
    height, width = config.view.image_size
    seen = (len(geometry.rig), config.image_widths[0], height // STRIDE, width // STRIDE)
    bev = (1, config.context, config.grid.ny, config.grid.nx)
    return dataclasses.replace(
        spec,
        family="stereo_flashocc",
        inputs=inputs,
        outputs=(
            *spec.outputs,
            OutputSpec(BEV, "float32", bev, "state"),
            OutputSpec(STEREO, "float32", seen, "state"),
        ),
        states=(StateSpec(BEV, PAST_BEV), StateSpec(STEREO, PAST_STEREO)),
        geometry={**spec.geometry, "history": 1},
        keep_float={**spec.keep_float, **_KEEP_FP32},
        keep_fp32=_KEEP_FP32,
    )
