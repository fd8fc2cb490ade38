from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporters.errors import UserError
from exporters.flashocc.config import M0, OCC3D_CLASSES, Config
from exporters.flashocc.default_rig import four_camera_rig, nuscenes_like_rig
from exporters.flashocc.geometry import Grid
from exporters.flashocc.options import ExportOptions, base_config
from exporters.modelfile import canonical_json


def test_texts_and_values_mean_the_same(tmp_path: Path) -> None:
    rig = tmp_path / "rig.json"
    rig.write_text(canonical_json(four_camera_rig().to_json()))
    names = tmp_path / "classes.txt"
    names.write_text("wall\nfree\n")
    texts = ExportOptions.parse(
        {
            "checkpoint": "weights.pth",
            "rig": str(rig),
            "image_size": "128x352",
            "depth": "1:45:0.5",
            "grid": "-20:20:0.5,-12:12:0.5,-1:3:1",
            "classes": str(names),
        }
    )
    values = ExportOptions.parse(
        {
            "checkpoint": Path("weights.pth"),
            "rig": four_camera_rig(),
            "image_size": [128, 352],
            "depth": [1, 45, 0.5],
            "grid": {"x": [-20, 20, 0.5], "y": [-12, 12, 0.5], "z": [-1, 3, 1]},
            "classes": ["wall", "free"],
        }
    )
    assert texts.rig.to_json() == values.rig.to_json()  # type: ignore[union-attr]
    for name in ("checkpoint", "image_size", "depth", "grid", "classes"):
        assert getattr(texts, name) == getattr(values, name), name
    assert values.grid == Grid((-20, 20, 0.5), (-12, 12, 0.5), (-1, 3, 4), (-1, 3, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chekpoint": "x"}, "unknown export option 'chekpoint'. Did you mean 'checkpoint'?"),
        ({"input": "uint9"}, "Choose uint8, camera or float"),
        ({"image_size": "256"}, "is not HEIGHTxWIDTH. For example 256x704"),
        ({"image_size": "250x704"}, "not a multiple of the stride 16"),
        ({"depth": "1-45"}, "is not LOW:HIGH:STEP"),
        ({"depth": "1:45:0.7"}, "whole number of steps"),
        ({"grid": "-40:40:0.4"}, "three ranges x,y,z"),
        ({"grid": {"x": [0, 1, 1]}}, "exactly the keys x, y and z"),
        ({"grid": "-1:1:1,-1:1:1,-1:1:1"}, "multiple of 8"),
        ({"classes": ["only"]}, "1 classes"),
        ({"classes": ["a", "a"]}, "occurs twice"),
        ({"classes": "absent.txt"}, "cannot read class names from absent.txt"),
        ({"rig": "absent.json"}, "cannot read rig absent.json"),
        ({"rig": nuscenes_like_rig(), "cameras": 4}, "--cameras and a rig were both given"),
        ({"reference_rig": nuscenes_like_rig()}, "belongs to --rig input"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        ExportOptions.parse(options).configure(M0)
    assert words in str(caught.value)


def test_unknown_variant() -> None:
    with pytest.raises(UserError, match="Did you mean 'flashocc-m1'"):
        base_config("flashocc-n1")


def test_which_rig() -> None:
    assert ExportOptions().given_rig.names == nuscenes_like_rig().names
    assert ExportOptions.parse({"cameras": 4}).given_rig.names == four_camera_rig().names
    assert len(ExportOptions.parse({"cameras": 5}).given_rig) == 5
    by_reference = ExportOptions.parse({"rig": "input", "reference_rig": four_camera_rig()})
    assert by_reference.takes_rig
    assert not by_reference.rig_is_synthetic
    assert len(by_reference.given_rig) == 4


def test_free_class() -> None:
    assert Config().free_class == OCC3D_CLASSES.index("free") == 17
    assert Config(classes=("free", "wall")).free_class == 0
    assert Config(classes=("road", "wall", "void")).free_class == 2
