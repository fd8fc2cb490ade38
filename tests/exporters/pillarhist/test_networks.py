"""The trained form: OpenPCDet's names and counts, and what the encoders compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exporters.errors import UserError
from exporters.pillarhist import host
from exporters.pillarhist.config import CONFIGS, KITTI, Histogram
from exporters.pillarhist.encoders import HardPFN, PillarHist, make_encoder
from exporters.pillarhist.model import PillarDetector
from tests.exporters.pillarhist import clouds


@pytest.mark.parametrize(
    ("variant", "tensors", "parameters"),
    [("pointpillars-kitti", 127, 4_834_888), ("centerpoint-pillar-nuscenes", 458, 5_989_030)],
)
def test_names_and_parameters_are_upstreams(variant: str, tensors: int, parameters: int) -> None:
    network = PillarDetector(CONFIGS[variant])
    names = network.state_dict()
    assert len(names) == tensors
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert names["backbone_2d.blocks.1.1.weight"].shape == (128, 64, 3, 3)
    assert names["global_step"].dtype == torch.int64


def test_names_of_the_heads() -> None:
    anchors = PillarDetector(KITTI).state_dict()
    assert anchors["vfe.pfn_layers.0.linear.weight"].shape == (64, 10)
    assert anchors["backbone_2d.deblocks.2.0.weight"].shape == (256, 128, 4, 4)
    assert anchors["dense_head.conv_cls.weight"].shape == (18, 384, 1, 1)
    centres = PillarDetector(CONFIGS["centerpoint-pillar-nuscenes"]).state_dict()
    assert centres["vfe.pfn_layers.0.linear.weight"].shape == (32, 11)
    assert centres["backbone_2d.deblocks.0.0.weight"].shape == (128, 64, 2, 2)
    assert centres["dense_head.heads_list.5.hm.1.weight"].shape == (2, 64, 3, 3)
    hist = PillarDetector(CONFIGS["pillarhist-pointpillars-kitti"]).state_dict()
    assert hist["vfe.pfn_layers.0.linear.weight"].shape == (64, 2 * 64 + 2)


def test_the_first_points_of_a_pillar_in_order_of_arrival(edgeport_data: Path) -> None:
    encoder = make_encoder(KITTI)
    assert isinstance(encoder, HardPFN)
    points = clouds.kitti(edgeport_data)[0]
    voxels, counts, places = encoder.voxelize(torch.from_numpy(points))
    expected = host.voxelize(points, KITTI.grid)
    assert len(counts) > 3000
    assert int(counts.max()) == 32
    np.testing.assert_array_equal(places, expected[2])
    np.testing.assert_array_equal(counts, expected[1])
    np.testing.assert_array_equal(voxels, expected[0])


@pytest.mark.parametrize("count_mode", ["raw", "clip8", "log1p"])
@pytest.mark.parametrize("xy_mode", ["metre", "unit"])
def test_rows_of_pillarhist_are_the_definition(count_mode: str, xy_mode: str) -> None:
    config = replace(
        CONFIGS["pillarhist-mini"],
        encoder=Histogram(bins=8, count_mode=count_mode, xy_mode=xy_mode),  # type: ignore[arg-type]
    )
    encoder = make_encoder(config)
    assert isinstance(encoder, PillarHist)
    points = clouds.made(config, 3, 2000)
    rows, places = encoder.rows(torch.from_numpy(points))
    counts, sums = host.histogram(points, config.grid, 8)
    by_pillar = counts.reshape(8, -1).T
    occupied = np.flatnonzero(by_pillar.sum(axis=1))
    np.testing.assert_array_equal(places, occupied)
    n = by_pillar[occupied].astype(float)
    seen = {"raw": n, "clip8": np.minimum(n, 8) / 8, "log1p": np.log1p(n)}[count_mode]
    np.testing.assert_allclose(rows[:, :8], seen, rtol=1e-6)
    mean = sums.reshape(8, -1).T[occupied] / (255 * np.maximum(n, 1))
    np.testing.assert_allclose(rows[:, 8:16], mean, rtol=1e-6)
    x = (occupied % config.grid.nx + 0.5) * 0.32
    y = (occupied // config.grid.nx + 0.5) * 0.32 - 25.6
    scale = (1, 1) if xy_mode == "metre" else (51.2, 25.6)
    # centres of 50 m in float32: 4e-6 m
    np.testing.assert_allclose(rows[:, 16], x / scale[0], atol=1e-5)
    np.testing.assert_allclose(rows[:, 17], y / scale[1], atol=1e-5)


def test_bad_configurations_are_named() -> None:
    with pytest.raises(UserError, match="0 height bins"):
        Histogram(bins=0)
    with pytest.raises(UserError, match=r"--count-mode is 'clip9'.*Did you mean 'clip8'"):
        Histogram(count_mode="clip9")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="4000: TensorRT sorts at most 3840"):
        replace(KITTI, candidates=4000)
    grid = replace(KITTI.grid, high=(69.28, 39.68, 1.0))
    with pytest.raises(UserError, match="433 pillars in x; the backbone divides by 8"):
        replace(KITTI, grid=grid)
