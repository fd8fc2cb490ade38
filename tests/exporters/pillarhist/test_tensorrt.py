"""The exported histogram encoders through TensorRT-RTX's real builder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from exporters.modelfile import ModelFile
from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.exported_encoders import exported_encoder
from exporters.pillarhist.exporter import traced
from exporters.pillarhist.model import PillarDetector
from runtimes import registry

pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")


@pytest.mark.parametrize(
    "variant", ["pillarhist-pointpillars-kitti", "pillarhist-centerpoint-nuscenes"]
)
@pytest.mark.parametrize("rows", [512, None], ids=["fewer points than pillars", "as exported"])
def test_an_encoder_builds(tmp_path: Path, variant: str, rows: int | None) -> None:
    """With as many points as pillars have rows, and more: scatters differ in what fits where."""
    config = CONFIGS[variant] if rows is None else replace(CONFIGS[variant], rows=rows)
    proto = traced(exported_encoder(PillarDetector(config).eval().vfe), config, "canvas")
    onnx.save(proto, tmp_path / "m.onnx")
    engine = registry.get("tensorrt").build(ModelFile(tmp_path / "m.onnx"), tmp_path / "m.engine")
    assert engine.path.stat().st_size > 1000
