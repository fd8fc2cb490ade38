from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calibration.samples
from calibration.samples import (
    InMemorySamples,
    hash_samples,
    inputs_of,
    labels_of,
    map_samples,
    open_samples,
    require_samples,
    write_samples,
)
from calibration.samples.checks import checked
from calibration.samples.open import choose
from exporters.errors import UserError
from exporters.modelfile import InputSpec, OutputSpec, StateSpec
from tests.calibration.sample_models import camera_spec, plain_sample, plain_spec


def mean_and_process(sample: dict[str, Any]) -> tuple[float, int]:
    return float(sample["x"].mean()), os.getpid()


def test_the_public_names_exist() -> None:
    for name in calibration.samples.__all__:
        assert getattr(calibration.samples, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        calibration.samples.nothing  # noqa: B018


def test_inputs_and_labels_are_told_apart_by_prefix() -> None:
    sample = plain_sample()
    assert set(inputs_of(sample)) == {"x", "tokens"}
    assert set(labels_of(sample)) == {"y"}


def test_a_good_sample_passes_unchanged() -> None:
    sample = plain_sample()
    result = checked(sample, "s", plain_spec())
    assert all(result[key] is sample[key] for key in sample)
    assert checked(sample, "s", None).keys() == sample.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, r"sample s has no input 'x'; it has \['tokens'\]\. .*edgeport samples"),
        ({"y": np.zeros(3)}, r"input 'y' that plain does not take\. .*label\.NAME"),
        (
            {"x": np.zeros((2, 4), np.float32)},
            r"x is float32 \[2, 4\], the model takes float32 \[2",
        ),
        ({"x": np.zeros((2, 3))}, r"x is float64 \[2, 3\], the model takes float32 \[2, 3\]"),
        ({"x": np.full((2, 3), np.nan, np.float32)}, r"s: x holds 6 NaN or infinite values of 6"),
        ({"tokens": np.zeros((1, 2, 3), np.int64)}, r"tokens is int64 \[1, 2, 3\]"),
        ({"label.y": np.array([1.0, np.inf])}, r"s: label\.y holds 1 NaN or infinite values of 2"),
    ],
)
def test_bad_samples_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    sample = {**plain_sample(), **change}
    sample = {key: value for key, value in sample.items() if value is not None}
    with pytest.raises(UserError, match=message):
        checked(sample, "s", plain_spec())


def test_states_come_all_together_or_not_at_all() -> None:
    ports = tuple(InputSpec(f"past_{age}", "float32", (1, 2), "state") for age in (1, 2))
    spec = dataclasses.replace(
        plain_spec(),
        inputs=(*plain_spec().inputs, *ports),
        outputs=(OutputSpec("now", "float32", (1, 2)),),
        states=tuple(StateSpec("now", f"past_{age}", age=age) for age in (1, 2)),
    )
    states = {port.name: np.ones((1, 2), np.float32) for port in ports}
    assert checked(plain_sample(), "s", spec).keys() == plain_sample().keys()
    assert checked({**plain_sample(), **states}, "s", spec).keys() > states.keys()
    with pytest.raises(UserError, match="sample s has no input 'past_2'"):
        checked({**plain_sample(), "past_1": states["past_1"]}, "s", spec)


def test_a_covered_camera_is_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 176, 3), dtype=np.uint8)
    checked({"images": images}, "s", camera_spec())
    images[4] = 7, 8, 9
    with pytest.raises(UserError, match="s: the image of camera CAM_BACK has one colour"):
        checked({"images": images}, "s", camera_spec())


def test_without_a_description_only_values_are_looked_at() -> None:
    checked({"a": np.zeros(4), "b": np.arange(4)}, "s", None)  # a may be a state
    checked({"a": np.zeros(1)}, "s", None)
    with pytest.raises(UserError, match="s: a, b hold one constant value each"):
        checked({"a": np.zeros(4), "b": np.ones(4), "label.c": np.arange(3)}, "s", None)
    with pytest.raises(UserError, match="s: a holds 1 NaN"):
        checked({"a": np.array([1, np.nan])}, "s", None)
    with pytest.raises(UserError, match="s has no inputs"):
        checked({"label.c": np.arange(3)}, "s", None)


def test_too_few_samples() -> None:
    samples = InMemorySamples([plain_sample()])
    require_samples(samples, 1)
    with pytest.raises(UserError, match=r"1 sample is too few, at least 8 .*--count N"):
        require_samples(samples, 8)


def describe_sources(folder: Path) -> dict[str, Callable[[], str]]:
    """What can be wrong with a source, and how to make it so."""

    def empty() -> str:
        (folder / "empty").mkdir()
        return str(folder / "empty")

    def foreign() -> str:
        (folder / "notes").mkdir()
        (folder / "notes" / "a.txt").write_text("a")
        return str(folder / "notes")

    def picture() -> str:
        (folder / "a.jpg").write_bytes(b"")
        return str(folder / "a.jpg")

    return {
        r"no samples at .*nowhere\. Give a folder": lambda: str(folder / "nowhere"),
        r"empty is empty\. Make samples with: edgeport samples": empty,
        r"notes holds neither samples nor images": foreign,
        r"a\.jpg is no \.npz file": picture,
        r"'synthetic:x' names no synthetic samples.*synthetic:COUNT": lambda: "synthetic:x",
        r"'synthetic:0' names no synthetic samples": lambda: "synthetic:0",
    }


@pytest.mark.parametrize("message", list(describe_sources(Path())))
def test_sources_that_hold_nothing(message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_samples(describe_sources(tmp_path)[message](), camera_spec())


def test_every_kind_of_source_opens(tmp_path: Path) -> None:
    written = InMemorySamples([plain_sample(0), plain_sample(1)], ["one", "two"])
    write_samples(written, tmp_path / "set")
    spec = plain_spec()
    assert open_samples(tmp_path / "set", spec).names == ("one", "two")
    single = open_samples(tmp_path / "set" / "0001-two.npz")
    assert single.names == ("0001-two",)
    assert hash_samples(single) == hash_samples([plain_sample(1)])
    assert open_samples("synthetic:2:7", camera_spec()).names == (
        "synthetic-7-0000",
        "synthetic-7-0001",
    )


def test_choosing_samples(tmp_path: Path) -> None:
    samples = write_samples(InMemorySamples([plain_sample(i) for i in range(6)]), tmp_path / "set")
    assert choose(samples, None) is samples
    assert choose(samples, 2).names == samples.names[:2]
    some = choose(samples, 3, seed=1)
    assert some.names == choose(samples, 3, seed=1).names
    assert len(set(some.names)) == 3
    assert some.sha256 != samples.sha256
    assert hash_samples(choose(samples, 1)) == hash_samples([plain_sample(0)])
    with pytest.raises(UserError, match="7 samples were asked for, the source holds 6"):
        choose(samples, 7)


def test_mapping_keeps_order_here_and_in_other_processes() -> None:
    pytest.importorskip("joblib")
    samples = InMemorySamples([plain_sample(i) for i in range(5)])
    here = list(map_samples(mean_and_process, samples))
    there = list(map_samples(mean_and_process, samples, backend="joblib"))
    assert [mean for mean, _ in here] == [mean for mean, _ in there]
    assert {process for _, process in here} == {os.getpid()}
    assert os.getpid() not in {process for _, process in there}
    with pytest.raises(UserError, match=r"unknown backend 'joblb'.*Did you mean 'joblib'"):
        map_samples(mean_and_process, samples, backend="joblb")
