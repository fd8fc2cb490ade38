"""Instances in the graph against numpy, and numpy against the definition."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from exporters.errors import UserError
from exporters.flashocc.config import OCC3D_CLASSES, Config
from exporters.flashocc.geometry import Grid
from exporters.panoptic_flashocc.centre_head import CentreMaps
from exporters.panoptic_flashocc.centres import (
    CLASS_MAPS,
    THING_CLASSES,
    CentreRules,
    Centres,
    assign_instances,
    decode_centres,
    panoptic_ids,
    thing_channels,
)
from exporters.panoptic_flashocc.config import HEAD_CLASSES
from exporters.panoptic_flashocc.instances import Instances
from exporters.trace import trace

GRID = Grid(x=(-8.0, 8.0, 1.0), y=(-12.0, 12.0, 1.0), z_pool=(-1, 3, 4), z_out=(-1, 3, 1))
CONFIG = Config(grid=GRID)


class OnlyInstances(nn.Module):
    """The part of the exported network that this file is about."""

    def __init__(self, config: Config, rules: CentreRules) -> None:
        super().__init__()
        self.panoptic = Instances(config, rules)

    def forward(self, labels: Tensor, reg: Tensor, height: Tensor, heatmap: Tensor) -> Tensor:
        found: Tensor = self.panoptic(labels, CentreMaps(reg, height, heatmap))
        return found


def random_inputs(seed: int, share_of_things: float = 0.5, bias: float = -1.0) -> dict[str, Any]:
    """Labels ``[z, y, x]`` and centre maps; some centres fall outside grid and range."""
    random = np.random.default_rng(seed)
    shape = (GRID.nz_out, GRID.ny, GRID.nx)
    things = np.array([OCC3D_CLASSES.index(name) for name in THING_CLASSES])
    labels = random.integers(0, 18, shape)
    labels = np.where(random.random(shape) < share_of_things, random.choice(things, shape), labels)

    def maps(channels: int, scale: float) -> NDArray[np.float32]:
        values = scale * random.standard_normal((1, channels, GRID.ny, GRID.nx))
        return values.astype(np.float32)

    heatmap = maps(len(HEAD_CLASSES), 1.5) + np.float32(bias)
    return {"labels": labels, "reg": maps(2, 2.0), "height": maps(1, 4.0), "heatmap": heatmap}


def expected(inputs: dict[str, Any], rules: CentreRules) -> NDArray[np.int32]:
    maps = (inputs["reg"], inputs["height"], inputs["heatmap"])
    centres = decode_centres(*maps, GRID, rules)
    labels = inputs["labels"].transpose(2, 1, 0).astype(np.uint8)
    channels = thing_channels(OCC3D_CLASSES, rules.class_map)
    found: NDArray[np.int32] = assign_instances(labels, centres, channels).transpose(2, 1, 0)
    return found


def in_torch(inputs: dict[str, Any], rules: CentreRules) -> NDArray[np.int32]:
    module = OnlyInstances(CONFIG, rules)
    found: NDArray[np.int32] = module(*map(torch.from_numpy, inputs.values())).numpy()
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    class_map=st.sampled_from(list(CLASS_MAPS)),
    max_centres=st.sampled_from([1, 7, 500]),
    threshold=st.sampled_from([0.1, 0.3, 0.9]),
    share=st.sampled_from([0.0, 0.05, 0.7]),
)
def test_torch_equals_numpy(
    seed: int, class_map: str, max_centres: int, threshold: float, share: float
) -> None:
    rules = CentreRules(class_map, max_centres, threshold)
    inputs = random_inputs(seed, share)
    assert np.array_equal(in_torch(inputs, rules), expected(inputs, rules))


@pytest.mark.parametrize("class_map", CLASS_MAPS)
def test_the_graph_equals_numpy(class_map: str) -> None:
    rules = CentreRules(class_map, score_threshold=0.4)
    inputs = random_inputs(0)
    feeds = {name: torch.from_numpy(value) for name, value in inputs.items()}
    proto = trace(OnlyInstances(CONFIG, rules), feeds, ["instances"])
    assert {node.domain for node in proto.graph.node} == {""}
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(10):
        inputs = random_inputs(seed)
        (found,) = session.run(None, inputs)
        assert found.dtype == np.int32
        assert np.array_equal(found, expected(inputs, rules))
        assert found.max() > 1


def test_numpy_equals_the_definition() -> None:
    inputs = random_inputs(5)
    rules = CentreRules(score_threshold=0.6)
    centres = decode_centres(inputs["reg"], inputs["height"], inputs["heatmap"], GRID, rules)
    found = expected(inputs, rules).transpose(2, 1, 0)
    labels = inputs["labels"].transpose(2, 1, 0)
    names = [HEAD_CLASSES[channel] for channel in centres.channel]
    for voxel in np.ndindex(labels.shape):
        name = OCC3D_CLASSES[labels[voxel]]
        candidates = [
            (sum((a - int(b)) ** 2 for a, b in zip(voxel, centre, strict=True)), int(rank))
            for centre, rank, of in zip(centres.voxel, centres.rank, names, strict=True)
            if of == name and name in THING_CLASSES
        ]
        assert found[voxel] == (min(candidates)[1] + 1 if candidates else 0)


def test_centres_are_peaks_in_metres() -> None:
    heatmap = np.full((1, 10, GRID.ny, GRID.nx), -9.0, np.float32)
    heatmap[0, 8, 5, 3], heatmap[0, 8, 5, 4], heatmap[0, 0, 20, 10] = 2.0, 1.0, 3.0
    reg, height = np.zeros((1, 2, GRID.ny, GRID.nx)), np.full((1, 1, GRID.ny, GRID.nx), 0.9)
    reg[0, :, 5, 3] = 0.25, 1.5
    height[0, 0, 20, 10] = -1.9
    centres = decode_centres(
        reg.astype(np.float32), height.astype(np.float32), heatmap, GRID, CentreRules()
    )
    assert centres.channel.tolist() == [0, 8]  # the best first; a neighbour of a peak is none
    # x and y: cell + reg, z: (height + 1) / 1 m, where -0.9 is cut off toward zero
    assert centres.voxel.tolist() == [[10, 20, 0], [3, 6, 1]]
    np.testing.assert_allclose(centres.score, 1 / (1 + np.exp([-3.0, -2.0])), rtol=1e-6)


def test_ties_go_to_the_higher_score() -> None:
    rules = CentreRules()
    heatmap = np.full((1, 10, GRID.ny, GRID.nx), -9.0, np.float32)
    heatmap[0, 0, 4, 2], heatmap[0, 0, 4, 6] = 1.0, 2.0
    inputs = {
        "labels": np.full((GRID.nz_out, GRID.ny, GRID.nx), OCC3D_CLASSES.index("car")),
        "reg": np.zeros((1, 2, GRID.ny, GRID.nx), np.float32),
        "height": np.zeros((1, 1, GRID.ny, GRID.nx), np.float32),
        "heatmap": heatmap,
    }
    found = in_torch(inputs, rules)
    assert (found[:, :, :4] == np.array([2, 2, 2, 2])).sum() == found[:, :, :4].size
    assert (found[:, :, 4] == 1).all()  # equally far
    assert np.array_equal(found, expected(inputs, rules))


def test_the_released_code_confuses_classes() -> None:
    def pairs(class_map: str) -> dict[str, str]:
        labels = thing_channels(OCC3D_CLASSES, class_map)
        return {
            head: OCC3D_CLASSES[label]
            for head, label in zip(HEAD_CLASSES, labels, strict=True)
            if label >= 0
        }

    assert pairs("fixed") == {name: name for name in HEAD_CLASSES if name in THING_CLASSES}
    compat = pairs("compat")
    assert (compat["construction_vehicle"], compat["trailer"]) == (
        "trailer",
        "construction_vehicle",
    )
    assert (compat["barrier"], compat["bicycle"]) == ("bicycle", "pedestrian")
    assert "pedestrian" not in compat


def test_voxels_beyond_the_bound_have_no_instance() -> None:
    rules = CentreRules(score_threshold=0.0, thing_voxels=100)
    inputs = random_inputs(2)
    found = in_torch(inputs, rules)
    full = in_torch(inputs, dataclasses.replace(rules, thing_voxels=10**6))
    things = np.isin(inputs["labels"], thing_channels(OCC3D_CLASSES, "fixed"))
    number = np.cumsum(things).reshape(things.shape)
    assert np.array_equal(found, np.where(number <= 100, full, 0))
    assert full.astype(bool).sum() == things.sum() > 100


def test_a_scene_without_centres_has_labels_alone() -> None:
    assert not in_torch(random_inputs(3, bias=-30.0), CentreRules()).any()


def test_panoptic_ids_keep_labels_and_tell_instances_apart() -> None:
    labels = np.array([[[4, 4, 11, 17]]], np.uint8)
    instances = np.array([[[1, 3, 0, 0]]], np.int32)
    assert panoptic_ids(labels, instances, 18).tolist() == [[[18, 20, 11, 17]]]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"class_map": "compact"}, "Did you mean 'compat'"),
        ({"max_centres": 4000}, "Choose 1 to 3840"),
        ({"score_threshold": 1.5}, "Choose 0 to 1"),
        ({"thing_voxels": 0}, "Choose 1 or more"),
    ],
)
def test_bad_rules_say_what_is_wrong(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        CentreRules(**rules)
    assert words in str(caught.value)


def test_rules_survive_json() -> None:
    rules = CentreRules("compat", 40, 0.1)
    assert CentreRules.from_json(rules.to_json()) == rules
    assert Centres.__dataclass_fields__.keys() == {"rank", "voxel", "channel", "score"}
