"""Splits on disk: disjoint by content, reproducible, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.samples import hash_samples, input_hash, inputs_of, open_samples, write_samples
from calibration.samples.lazy import LazySamples
from calibration.samples.sets import make_sets
from calibration.samples.splitting import Share, assign
from calibration.samples.writing import write_split
from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelSpec
from tests.calibration.sample_models import camera_spec, plain_sample, plain_spec
from tests.calibration.samples.trees import nuscenes


def source_of(seeds: list[int], groups: list[str] | None = None) -> LazySamples:
    """Samples whose content depends on a number alone: equal numbers are duplicates."""
    names = [f"name-{place}" for place in range(len(seeds))]
    return LazySamples(
        names, lambda i: plain_sample(seeds[i]), lambda i: seeds[i], plain_spec(), groups
    )


@given(st.lists(st.integers(0, 9), min_size=4, max_size=30), st.integers(0, 3))
def test_no_content_is_in_two_sets(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], seed: int
) -> None:
    source = source_of(seeds)
    folder = tmp_path_factory.mktemp("split") / "sets"
    pools = assign(source.groups, [Share("a", fraction=0.5), Share("b")], seed)
    pieces = [{seeds[i] for i in pool.indices} for pool in pools.values()]
    if pieces[1] <= pieces[0]:
        with pytest.raises(UserError, match="are equal to samples that were taken before"):
            write_split(source, folder, pools, seed=seed)
        assert not folder.exists()
        return
    written = write_split(source, folder, pools, seed=seed)
    contents = [hash_samples([inputs_of(s)]) for part in written.sets.values() for s in part]
    assert len(contents) == len(set(contents)) == len(set(seeds))
    assert len(contents) + len(written.left_out) == len(seeds)


def test_a_set_of_a_certain_size_gets_others_in_place_of_duplicates(tmp_path: Path) -> None:
    source = source_of([0] * 10 + list(range(1, 11)))
    pools = assign(source.groups, [Share("a", count=4), Share("b", count=4)], 0)
    written = write_split(source, tmp_path / "sets", pools)
    assert [len(part) for part in written.sets.values()] == [4, 4]
    digests = [digest for part in written.sets.values() for digest in part.input_hashes()]
    assert len(set(digests)) == 8
    with pytest.raises(UserError, match=r"the set 'a' would hold 1 samples: all others of its 5"):
        write_split(source_of([0] * 5), tmp_path / "few", assign(list("vwxyz"), [Share("a", 4)], 0))
    assert list(tmp_path.iterdir()) == [tmp_path / "sets"]


def test_manifests_say_everything(tmp_path: Path) -> None:
    groups = [f"scene-{i // 5}" for i in range(20)]
    source = source_of([*range(19), 0], groups)
    shares = [Share("calibration", count=6), Share("held-out", count=3)]
    write_split(
        source, tmp_path / "sets", assign(groups, shares, 7), origin="here", split="…", seed=7
    )
    split = json.loads((tmp_path / "sets" / "split.json").read_text())
    assert (split["schema"], split["source"], split["seed"]) == ("edgeport.split/1", "here", 7)
    seen: list[str] = []
    for name, described in split["sets"].items():
        folder = tmp_path / "sets" / name
        manifest = json.loads((folder / "samples.json").read_text())
        opened = open_samples(folder, plain_spec())
        assert manifest["sha256"] == described["sha256"] == opened.sha256
        assert described["samples"] == len(opened) == len(manifest["samples"])
        assert set(opened.groups) == set(described["groups"])
        seen += described["groups"]
        for entry, sample in zip(manifest["samples"], opened, strict=True):
            assert entry["sha256"] == sha256_file(folder / entry["file"])
            assert entry["inputs_sha256"] == input_hash(sample)
    assert len(seen) == len(set(seen)), "a scene in two sets"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    source = source_of(list(range(12)))
    files = []
    for run in ("a", "b"):
        pools = assign(source.groups, [Share("x", count=3), Share("y")], 5)
        write_split(source, tmp_path / run, pools, seed=5)
        found = sorted((tmp_path / run).rglob("*.*"))
        files.append({str(f.relative_to(tmp_path / run)): sha256_file(f) for f in found})
    assert files[0] == files[1]


class Failing(LazySamples):
    """The fifth sample that is asked for is never made."""

    def __init__(self, error: type[BaseException]) -> None:
        self.made = 0
        self.error = error
        names = [str(i) for i in range(10)]
        super().__init__(names, lambda i: plain_sample(i), lambda i: i, plain_spec())

    def sample(self, index: int) -> dict[str, Any]:
        self.made += 1
        if self.made == 5:
            raise self.error
        return super().sample(index)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_it_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    source = Failing(error)
    pools = assign(source.groups, [Share("a", count=3), Share("b", count=3)], 0)
    with pytest.raises(error):
        write_split(source, tmp_path / "sets", pools)
    assert list(tmp_path.iterdir()) == []
    old = write_samples(source_of([1, 2]), tmp_path / "sets")
    with pytest.raises(error):
        write_split(Failing(error), tmp_path / "sets", pools, overwrite=True)
    assert open_samples(tmp_path / "sets").sha256 == old.sha256


def test_a_split_is_named_by_its_parts(tmp_path: Path) -> None:
    source = source_of(list(range(6)))
    pools = assign(source.groups, [Share("a", count=2), Share("b")], 0)
    write_split(source, tmp_path / "sets", pools)
    with pytest.raises(UserError, match=r"holds several sets: a, b\. Name one of them: .*sets/a"):
        open_samples(tmp_path / "sets")
    with pytest.raises(UserError, match=r"sets exists already"):
        write_split(source, tmp_path / "sets", pools)
    write_split(source, tmp_path / "sets", pools, overwrite=True)


def test_lazy_samples_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def load(index: int) -> dict[str, Any]:
        made.append(index)
        return plain_sample(index)

    def passes(spec: ModelSpec) -> Iterator[str]:
        samples = LazySamples(["a", "b", "c"], load, lambda i: i, spec)
        for _ in range(3):
            yield hash_samples(samples)

    assert len(set(passes(plain_spec()))) == 1
    assert made == [0, 1, 2]
    made.clear()
    monkeypatch.setattr("calibration.samples.kept.KEPT_BYTES", 100)  # a sample has 61
    assert len(set(passes(plain_spec()))) == 1
    assert made == [0, 1, 2, 1, 2, 1, 2]


def test_kept_samples_go_with_their_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    samples = source_of([1, 2])
    list(samples)
    assert len(list(tmp_path.glob("edgeport-samples-*/*.npz"))) == 2
    del samples
    assert list(tmp_path.iterdir()) == []


def test_scenes_of_nuscenes_stay_whole(tmp_path: Path) -> None:
    root = nuscenes(tmp_path / "nuscenes", scenes=4, frames=3)
    made = make_sets(
        str(root), tmp_path / "sets", camera_spec(), split="calibration=4,validation=2", seed=1
    )
    scenes = [set(part.groups) for part in made.sets.values()]
    assert not scenes[0] & scenes[1]
    assert [len(part) for part in made.sets.values()] == [4, 2]
    assert made.scenes == 4
    with pytest.raises(UserError, match="4 scenes with 3, 3, 3, 3 samples cannot be split"):
        make_sets(str(root), tmp_path / "no", camera_spec(), split="a=4,b=4,c=2")


def test_apart_from_what_is_there(tmp_path: Path) -> None:
    for index in range(8):
        (tmp_path / "all").mkdir(exist_ok=True)
        np.savez(tmp_path / "all" / f"{index}.npz", **plain_sample(index))  # type: ignore[arg-type]
    spec = plain_spec()
    first = make_sets(str(tmp_path / "all"), tmp_path / "first", spec, count=3)
    split = {"split": "evaluation=rest", "apart_from": [tmp_path / "first"]}
    made = make_sets(str(tmp_path / "all"), tmp_path / "more", spec, **split)  # type: ignore[arg-type]
    assert set(made.left_out) == {"0", "1", "2"}
    assert made.left_out["0"].endswith("first: 0")
    digests = set(first.sets[""].input_hashes()) & set(made.sets["evaluation"].input_hashes())
    assert not digests
    with pytest.raises(UserError, match="--apart-from is for splits"):
        make_sets(str(tmp_path / "all"), tmp_path / "x", spec, apart_from=[tmp_path / "first"])
