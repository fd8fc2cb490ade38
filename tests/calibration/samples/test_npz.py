from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.samples import InMemorySamples, NpzSamples, hash_samples, write_samples
from calibration.samples.npz import npz_bytes, read_npz
from exporters.errors import MissingRequirementError, UserError
from tests.calibration.sample_models import plain_sample, plain_spec

ARRAYS = st.dictionaries(
    st.sampled_from(["images", "x", "label.semantics"]),
    hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.float32, np.float16]), hnp.array_shapes(min_dims=0)
    ),
    min_size=1,
)


@pytest.fixture
def samples() -> InMemorySamples:
    return InMemorySamples([plain_sample(0), plain_sample(1)], ["a/b c", "two"])


@pytest.fixture
def folder(samples: InMemorySamples, tmp_path: Path) -> Path:
    write_samples(samples, tmp_path / "set", source="test")
    return tmp_path / "set"


@given(ARRAYS)
def test_arrays_survive_and_numpy_reads_them(arrays: dict[str, Any]) -> None:
    import io

    data = npz_bytes(arrays)
    assert data == npz_bytes(dict(reversed(arrays.items())))
    with np.load(io.BytesIO(data)) as archive:
        assert set(archive.files) == set(arrays)
        for key, value in arrays.items():
            assert archive[key].dtype == value.dtype
            np.testing.assert_array_equal(archive[key], value)


def test_a_set_survives_with_its_names_and_order(samples: InMemorySamples, folder: Path) -> None:
    again = NpzSamples.open(folder, plain_spec())
    assert again.names == samples.names == ("a/b c", "two")
    assert len(again) == 2
    assert hash_samples(again) == hash_samples(samples) == hash_samples(again)  # twice
    assert sorted(path.name for path in folder.iterdir()) == [
        "0000-a-b-c.npz",
        "0001-two.npz",
        "samples.json",
    ]


def test_equal_samples_give_equal_files(samples: InMemorySamples, folder: Path) -> None:
    other = write_samples(samples, folder.parent / "other", source="test")
    for path in folder.iterdir():
        assert path.read_bytes() == (folder.parent / "other" / path.name).read_bytes()
    assert other.sha256 == NpzSamples.open(folder).sha256


def test_folders_without_manifest_are_read_by_file_name(folder: Path) -> None:
    (folder / "samples.json").unlink()
    bare = NpzSamples.open(folder)
    assert bare.names == ("0000-a-b-c", "0001-two")
    assert len(list(bare)) == 2


def test_a_set_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    class Failing(InMemorySamples):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield plain_sample()
            raise UserError("the second sample is bad")

    with pytest.raises(UserError, match="the second sample is bad"):
        write_samples(Failing([plain_sample(), plain_sample()]), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_samples(samples: InMemorySamples, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    write_samples(samples, tmp_path / "set", progress=lambda *step: seen.append(step))
    assert seen == [("samples", 1, 2), ("samples", 2, 2)]


def test_nothing_is_overwritten_by_accident(samples: InMemorySamples, folder: Path) -> None:
    with pytest.raises(UserError, match=r"set exists already.*--overwrite"):
        write_samples(samples, folder)
    smaller = InMemorySamples([plain_sample(5)])
    write_samples(smaller, folder, overwrite=True)
    assert hash_samples(NpzSamples.open(folder)) == hash_samples(smaller)
    assert [path.name for path in folder.parent.iterdir()] == ["set"]

    notes = folder.parent / "notes"
    notes.mkdir()
    (notes / "important.txt").write_text("keep")
    with pytest.raises(UserError, match="notes is no sample set; it is not deleted"):
        write_samples(samples, notes, overwrite=True)
    with pytest.raises(UserError, match=r"important\.txt is a file"):
        write_samples(samples, notes / "important.txt")
    assert (notes / "important.txt").read_text() == "keep"


def test_an_empty_folder_is_taken(samples: InMemorySamples, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert len(write_samples(samples, tmp_path / "set")) == 2


def test_an_unwritable_place_is_said_before_work(samples: InMemorySamples, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingRequirementError, match=r"cannot write to .*file/deeper"):
        write_samples(samples, tmp_path / "file" / "deeper" / "set")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95, 0.999])
def test_truncated_files_are_named(folder: Path, share: float) -> None:
    path = folder / "0001-two.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=r"0001-two\.npz is truncated or no \.npz file"):
        list(NpzSamples.open(folder))


def test_a_changed_file_is_noticed(folder: Path) -> None:
    (folder / "0001-two.npz").write_bytes(npz_bytes(plain_sample(9)))
    with pytest.raises(UserError, match=r"0001-two\.npz is not the file that samples\.json"):
        list(NpzSamples.open(folder))


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"no \.npz file of plain arrays"):
        read_npz(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"samples\.json is damaged"),
        ('{"schema": "edgeport.samples/9"}', r"schema 'edgeport\.samples/9', this edgeport reads"),
        ('{"schema": "edgeport.samples/1"}', r"samples\.json is damaged: KeyError\('samples'\)"),
        ('{"schema": "edgeport.samples/1", "samples": []}', r"set holds no samples"),
    ],
)
def test_damaged_manifests(folder: Path, text: str, message: str) -> None:
    (folder / "samples.json").write_text(text)
    with pytest.raises(UserError, match=message):
        NpzSamples.open(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "0001-two.npz").unlink()
    with pytest.raises(UserError, match=r"0001-two\.npz is missing, but samples\.json names it"):
        NpzSamples.open(folder)


def test_a_manifest_cannot_lead_out_of_its_folder(folder: Path) -> None:
    manifest = json.loads((folder / "samples.json").read_text())
    manifest["samples"][0]["file"] = "../secret.npz"
    (folder / "samples.json").write_text(json.dumps(manifest))
    (folder.parent / "secret.npz").write_bytes(npz_bytes(plain_sample()))
    with pytest.raises(UserError, match=r"set/secret\.npz is missing"):
        NpzSamples.open(folder)
