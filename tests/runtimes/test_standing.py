from __future__ import annotations

from pathlib import Path

import pytest

from runtimes import targets
from runtimes.standing import Standing, standing

TABLE = targets.load()


def board(root: Path, model: str, release: str = "") -> Path:
    """A root with the two files by which a Jetson is known, as NVIDIA's releases write them."""
    tree = root / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(model.encode() + b"\0")
    if release:
        (root / "etc").mkdir()
        (root / "etc" / "nv_tegra_release").write_text(release)
    return root


def words(major: int, revision: str) -> str:
    return (
        f"# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, "
        "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    )


@pytest.mark.parametrize(
    ("model", "major", "revision", "target"),
    [
        ("NVIDIA Jetson AGX Orin Developer Kit", 36, "4.3", "jetson-orin-agx/jp6.2/trt10.3"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 36, "4.0", "jetson-orin-agx/jp6.1/trt10.3"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 35, "4.1", "jetson-orin-agx/jp5.1/trt8.5"),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            *(36, "4.4"),
            "jetson-orin-nano/jp6.2/trt10.3",
        ),
        (
            "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
            *(36, "4.3"),
            "jetson-orin-nx/jp6.2/trt10.3",
        ),
        ("Jetson-AGX", 35, "3.1", "jetson-xavier/jp5.1/trt8.5"),
        ("NVIDIA Jetson AGX Thor Developer Kit", 38, "2.0", "jetson-thor/jp7.0/trt10.13"),
    ],
)
def test_a_jetson_knows_its_row(
    tmp_path: Path, model: str, major: int, revision: str, target: str
) -> None:
    found = standing(TABLE, "8.7", board(tmp_path, model, words(major, revision)))
    assert found.target == target
    assert found.machine == model
    assert found.l4t == f"{major}.{revision}"
    assert f"jp{found.jetpack}" in target


@pytest.mark.parametrize(
    ("model", "release", "words_"),
    [
        ("NVIDIA Jetson Nano", words(32, "7.1"), "no device called 'NVIDIA Jetson Nano'"),
        ("NVIDIA Jetson AGX Orin", words(99, "1.0"), "which JetPack Jetson Linux 99.1.0 belongs"),
        ("NVIDIA Jetson AGX Orin", "", "does not say which Jetson Linux"),
        (
            "NVIDIA Jetson Orin Nano",
            words(36, "4.0"),
            "no row for Jetson Orin Nano with JetPack 6.1, only 6.2",
        ),
    ],
)
def test_where_the_table_has_no_row_it_says_why(
    tmp_path: Path, model: str, release: str, words_: str
) -> None:
    found = standing(TABLE, "", board(tmp_path, model, release))
    assert found.target is None
    assert words_ in found.reason


def test_a_pc_is_known_by_its_gpu(tmp_path: Path) -> None:
    assert standing(TABLE, "8.9", tmp_path).target == "rtx-ada/trt-rtx1.7"
    assert standing(TABLE, "12.0", tmp_path).target == "rtx-blackwell/trt-rtx1.7"
    hopper = standing(TABLE, "9.0", tmp_path)
    assert hopper.target is None
    assert "no TensorRT-RTX target for compute capability 9.0" in hopper.reason


def test_what_is_left_is_a_cpu(tmp_path: Path) -> None:
    """Another vendor's board has a device tree too."""
    cpu = Standing("a machine without an NVIDIA GPU", "cpu/onnxruntime")
    assert standing(TABLE, "", tmp_path) == cpu
    assert standing(TABLE, "", board(tmp_path / "pi", "Raspberry Pi 5 Model B")) == cpu


def test_every_jetson_of_the_table_can_be_recognized() -> None:
    for target in TABLE.targets.values():
        if target.jetpack:
            assert TABLE.device_of(target).models, target.device
    jetpacks = {target.jetpack for target in TABLE.targets.values()}
    assert {row.jetpack for row in TABLE.l4t.values()} <= jetpacks
