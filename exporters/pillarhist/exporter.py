"""Checkpoint to model file: the steps of a pillar detector's export, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from exporters.checkpoints import MappingReport, load_strict
from exporters.errors import EdgeportError
from exporters.files import require_writable
from exporters.modelfile import save_model
from exporters.ops import pillar_histogram
from exporters.pillarhist.agreement import Agreement, compare
from exporters.pillarhist.config import Config, DynamicPillars, Histogram
from exporters.pillarhist.describe import describe
from exporters.pillarhist.inference import InferenceModel
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.random_weights import generated_points, initialise
from exporters.pillarhist.weights import Source, find_source
from exporters.trace import OPSET, trace
from exporters.variants import ExportResult, Progress

OUTPUT = "boxes"


def export(
    variant: str, output: Path, *, progress: Progress | None = None, **options: Any
) -> ExportResult:
    """Write a pillar detector's model file; see ``exporters.pillarhist.export``."""
    chosen = ExportOptions.parse(options)
    require_writable(output, overwrite=chosen.overwrite)
    steps = _Steps(progress)
    with steps.step("read"):
        source = find_source(variant, chosen)
    with steps.step("weights"):
        network, mapping = build_network(source)
        points = generated_points(source.config, chosen.seed + 1)
        samples = list(chosen.samples or [{"points": points}])
    with steps.step("trace"):
        proto = traced(InferenceModel(network, chosen.nms), source.config)
    with steps.step("compare"):
        agreement = compare(network, proto, samples, chosen.nms)
        if not agreement.holds:
            raise EdgeportError(f"the exported graph does not agree with PyTorch: {agreement}")
    with steps.step("write"):
        spec = describe(variant, source.config, chosen, source.origin)
        file = save_model(proto, output, spec=spec, overwrite=chosen.overwrite)
    report = _report(source, network, mapping, agreement)
    return ExportResult(file, {**report, "seconds": steps.seconds})


def build_network(source: Source) -> tuple[PillarDetector, MappingReport | None]:
    """The trained network in eval mode, and what became of the checkpoint's keys."""
    network = PillarDetector(source.config).eval()
    if source.named is not None:
        return network, load_strict(network, source.named)
    initialise(network, source.seed)
    return network, None


def traced(module: torch.nn.Module, config: Config, output: str = OUTPUT) -> Any:
    """The graph of ``module``, which takes points, with the operators that it needs."""
    points = torch.full((config.rows, len(config.columns)), -10_000.0)
    points[0] = 1.0
    if isinstance(config.encoder, Histogram):
        operator, write = pillar_histogram.translation()
        cells = config.encoder.rows(config.rows) * config.encoder.bins
        functions = pillar_histogram.functions(cells)
        return trace(
            module,
            {"points": points},
            [output],
            translations={operator: write},
            functions=functions,
        )
    # a maximum over all points of a pillar is a reduction that ONNX has since 18
    opset = 18 if isinstance(config.encoder, DynamicPillars) else OPSET
    return trace(module, {"points": points}, [output], opset=opset)


def _report(
    source: Source,
    network: PillarDetector,
    mapping: MappingReport | None,
    agreement: Agreement,
) -> dict[str, Any]:
    notes = [*(str(mapping).splitlines() if mapping else ()), *source.notes]
    if mapping is None:
        notes.append(f"{source.origin}: boxes of this model mean nothing")
    return {
        "variant": source.variant,
        "weights": str(source.origin),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "checkpoint": mapping.to_json() if mapping else None,
        "agreement": agreement.to_json(),
        "notes": tuple(notes),
        "says": (f"agrees with PyTorch: {agreement}",),
    }


class _Steps:
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
