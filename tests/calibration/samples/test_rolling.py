"""Drives through networks with a memory: every sample with what the frames before it left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from calibration import QuantizeOptions, observe, quantize
from calibration.samples import (
    InMemorySamples,
    NpzSamples,
    input_hash,
    inputs_of,
    open_samples,
    write_samples,
)
from calibration.samples.doctor.overlap import hashes_of
from calibration.samples.findings import SamplesRefusedError
from calibration.samples.rolling import RolledSamples, as_given, rolled
from calibration.samples.sets import make_sets
from calibration.samples.subset import Subset
from deploy import verify
from exporters.errors import UserError
from exporters.modelfile import ModelFile
from exporters.panoptic_flashocc import export
from exporters.streaming import Stream
from tests.exporters.panoptic_flashocc.nets import OPTIONS, random_network, remembering, saved

DRIVES, FRAMES, MEMORY = 2, 4, 2
SOURCE = f"synthetic:{DRIVES}x{FRAMES}:3"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """A network of thirty thousand parameters that remembers two frames."""
    folder = tmp_path_factory.mktemp("rolling")
    weights = saved(random_network(remembering(MEMORY)), folder)
    return export("panoptic-flashocc", folder / "m.onnx", checkpoint=weights, **OPTIONS).model


@pytest.fixture(scope="module")
def drives(file: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> NpzSamples:
    """Rendered once, without states."""
    folder = tmp_path_factory.mktemp("drives")
    return write_samples(open_samples(SOURCE, file.spec), folder / "set")


def session_of(path: Path) -> Any:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def by_hand(samples: Any, file: ModelFile, path: Path | None = None) -> list[dict[str, Any]]:
    """Outputs of a new stream for each drive."""
    run, found = session_of(path or file.path), []
    for index, sample in enumerate(samples):
        if index % FRAMES == 0:
            stream = Stream(file.require_spec(), run)
        found.append(stream.run(inputs_of(sample)))
    return found


def test_frames_of_a_drive_know_where_the_vehicle_was(drives: NpzSamples) -> None:
    lengths = [int(sample["history_length"][0]) for sample in drives]
    assert lengths == [0, 1, 2, 2] * DRIVES
    behind = [int(sample["label.past_frames"][0]) for sample in drives]
    assert behind == [0, 1, 2, 3] * DRIVES
    for sample in list(drives)[2:FRAMES]:
        latest, older = sample["history_motion"]
        assert latest[0, 2] > 0  # the vehicle drives ahead: cells were farther along x
        assert older[0, 2] > latest[0, 2]


def test_states_are_what_the_frames_before_left_behind(drives: NpzSamples, file: ModelFile) -> None:
    full = list(rolled(drives, file))
    maps = [outputs["bev"] for outputs in by_hand(drives, file)]
    for index, sample in enumerate(full):
        for age in (1, 2):
            remembered = index % FRAMES >= age
            expected = maps[index - age] if remembered else np.zeros_like(maps[0])
            assert np.array_equal(sample[f"history_{age}"], expected), (index, age)
    run = session_of(file.path)
    for sample, expected in zip(full, by_hand(drives, file), strict=True):
        assert np.array_equal(run(inputs_of(sample))["labels"], expected["labels"])


def test_a_second_pass_runs_nothing(file: ModelFile, drives: NpzSamples, tmp_path: Path) -> None:
    copy = tmp_path / "m.onnx"
    copy.write_bytes(file.path.read_bytes())
    samples = rolled(drives, ModelFile(copy))
    first = list(samples)
    copy.unlink()
    for one, other in zip(first, samples, strict=True):
        assert input_hash(one) == input_hash(other)
    part = Subset(samples, (1, 3))
    assert [*map(input_hash, part)] == [input_hash(first[index]) for index in (1, 3)]


def test_a_choice_remembers_what_it_leaves_out(file: ModelFile, drives: NpzSamples) -> None:
    whole = RolledSamples(drives, file)
    full = list(whole)
    chosen = whole.subset([1, 3]).subset([1])
    assert chosen.names == ("drive-3-000-03",)
    assert chosen.groups == ("drive-3-000",)
    assert input_hash(next(iter(chosen))) == input_hash(full[3])
    assert input_hash(whole.sample(FRAMES + 2)) == input_hash(full[FRAMES + 2])
    assert [sample.keys() for sample in as_given(chosen)] == [
        set(full[3]) - {"history_1", "history_2"}
    ]
    assert len({whole.sha256, chosen.sha256, as_given(whole).sha256}) == 3


def test_a_gap_is_refused(drives: NpzSamples, file: ModelFile) -> None:
    samples = list(drives)
    torn = InMemorySamples([samples[0], samples[2]], ["a", "b"])
    with pytest.raises(SamplesRefusedError, match=r"sample b is frame 3 .* the set has 1 of them"):
        list(rolled(torn, file))
    late = InMemorySamples(samples[1:3], ["a", "b"])
    with pytest.raises(SamplesRefusedError, match=r"sample a is frame 2 .* the set has 0 of them"):
        list(rolled(late, file))


def test_without_the_label_the_length_of_the_history_tells(
    drives: NpzSamples, file: ModelFile
) -> None:
    plain = [inputs_of(sample) for sample in drives]
    with_label, without = rolled(drives, file), rolled(InMemorySamples(plain), file)
    for one, other in zip(with_label, without, strict=True):
        assert input_hash(one) == input_hash(other)
    with pytest.raises(SamplesRefusedError, match="sample-1 is frame 3"):
        list(rolled(InMemorySamples([plain[0], plain[2]]), file))


def test_states_that_samples_bring_are_kept(drives: NpzSamples, file: ModelFile) -> None:
    full = [dict(sample) for sample in rolled(drives, file)]
    full[3]["history_1"] = np.full_like(full[3]["history_1"], 7)
    again = list(rolled(InMemorySamples(full[3:4]), file))
    assert (again[0]["history_1"] == 7).all()


def test_models_without_states_are_left_alone(drives: NpzSamples, tmp_path: Path) -> None:
    single = export(
        "panoptic-flashocc",
        tmp_path / "m.onnx",
        checkpoint=saved(random_network(remembering(0)), tmp_path),
        **OPTIONS,
    ).model
    assert rolled(drives, single) is drives


def test_drives_are_calibrated_on_and_verified_as_streams(
    file: ModelFile, drives: NpzSamples, tmp_path: Path
) -> None:
    """What `verify` says of INT8 is what a stream of INT8 by hand says."""
    options = QuantizeOptions(policy="onnxruntime", scales="minmax")
    made = quantize(file, drives, tmp_path / "int8.onnx", options)
    assert made.report["samples"]["sha256"] == rolled(drives, file).sha256
    seen = observe(file, drives)
    again = quantize(file, drives, tmp_path / "again.onnx", options, statistics=seen)
    assert again.model.sha256 == made.model.sha256

    held_out = open_samples(f"synthetic:1x{FRAMES}:4", file.spec)
    found = verify(file.path, made.model.path, held_out, layers=True)
    assert any("the states that it left itself" in note for note in found.notes)
    ours = by_hand(held_out, file)
    theirs = by_hand(held_out, file, made.model.path)
    equal = [np.mean(a["labels"] == b["labels"]) for a, b in zip(ours, theirs, strict=True)]
    told = [sample.outputs["labels"]["agreement"] for sample in found.samples]
    np.testing.assert_allclose(told, equal, rtol=0, atol=1e-12)
    assert min(equal) < 1  # INT8 does differ, and so do the maps that it remembers

    full = InMemorySamples(rolled(held_out, file), held_out.names)
    stepwise = verify(file.path, made.model.path, full)
    assert not any("left itself" in note for note in stepwise.notes)
    steps = [sample.outputs["labels"]["agreement"] for sample in stepwise.samples]
    assert steps[0] == told[0]
    assert steps != told


def test_a_set_is_known_again_with_and_without_its_states(
    drives: NpzSamples, file: ModelFile
) -> None:
    assert list(hashes_of(rolled(drives, file))) == list(hashes_of(drives))


def test_frames_without_a_past_are_noted(
    file: ModelFile, drives: NpzSamples, tmp_path: Path
) -> None:
    single = drives.subset([0, FRAMES])
    options = QuantizeOptions(policy="onnxruntime", scales="minmax", correct_bias=False)
    for samples, noted in ((single, True), (drives.subset(range(2)), False)):
        made = quantize(file, samples, tmp_path / f"{noted}.onnx", options)
        found = made.report["calibration_set"]["findings"]
        assert ("no-past" in [finding["code"] for finding in found]) == noted


def test_sets_hold_whole_beginnings_of_sequences(file: ModelFile, tmp_path: Path) -> None:
    spec = file.require_spec()
    for options in ({"count": 5, "seed": 1}, {"split": "calibration=3,held-out=2"}):
        with pytest.raises(UserError, match=r"would lack .* before drive-3-00.-0"):
            make_sets(SOURCE, tmp_path / "torn", spec, **options)
    assert not (tmp_path / "torn").exists()
    made = make_sets(SOURCE, tmp_path / "sets", spec, split="calibration=4,held-out=4")
    for samples in made.sets.values():
        assert len(list(rolled(samples, file))) == FRAMES
