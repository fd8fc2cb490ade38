"""Sample sets to disk: one set as a folder, or several disjoint ones from one source.

A folder appears complete or not at all: it is written under a temporary name beside its place and
renamed. One sample at a time is in memory. Manifests hold SHA-256s of every file, of the inputs of
every sample, and of each set; the same source, split and seed give the same bytes.

    DIR/split.json                  source, split, seed; sets with their hashes; duplicates left out
    DIR/calibration/samples.json    and 0000-NAME.npz, …: a sample set like any other
    DIR/validation/ …
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.samples.base import Array, Samples, Source, input_hash
from calibration.samples.findings import DIGEST
from calibration.samples.npz import MANIFEST, SCHEMA, NpzSamples, npz_bytes, set_hash
from calibration.samples.splitting import Pool, sizes_of
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes

SPLIT_MANIFEST = "split.json"
SPLIT_SCHEMA = "edgeport.split/1"

Progress = Callable[[str, int, int], None]


def write_samples(
    samples: Samples,
    directory: Path,
    *,
    source: str = "",
    seed: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> NpzSamples:
    """Write a sample set as a folder that :meth:`NpzSamples.open` reads.

    Args:
        samples: written in order; one at a time is in memory.
        directory: must not exist, unless it is empty, or ``overwrite`` is true and it is a sample
            set.
        source: where the samples come from, for the manifest.
        seed: of the choice, for the manifest.
        progress: called as ``progress("samples", done, total)``.

    Raises:
        UserError: ``directory`` is in the way, or a sample is bad.
        MissingRequirementError: ``directory`` cannot be written.
    """
    with _appearing(directory, overwrite=overwrite) as partial:
        writer = _SetWriter(partial)
        groups = getattr(samples, "groups", samples.names)
        for name, group, sample in zip(samples.names, groups, samples, strict=True):
            writer.add(name, group, sample, input_hash(sample))
            if progress:
                progress("samples", len(writer.entries), len(samples))
        writer.finish(source=source, seed=seed)
    return NpzSamples.open(directory)


@dataclass(frozen=True)
class WrittenSplit:
    """Sets on disk.

    Attributes:
        left_out: name of a sample to that of the earlier one whose inputs it repeats.
    """

    sets: Mapping[str, NpzSamples]
    left_out: Mapping[str, str]


def write_split(
    source: Source,
    directory: Path,
    pools: Mapping[str, Pool],
    *,
    origin: str = "",
    split: str = "",
    seed: int = 0,
    taken: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> WrittenSplit:
    """Write one sub-folder a pool; no two samples in any of them have equal inputs.

    A sample whose inputs were written already is left out, whatever its name and file; where a set
    is to have a certain number, the next one of its pool takes its place.

    Args:
        pools: from ``splitting.assign``.
        origin, split, seed: for the manifests.
        taken: digest to name of samples that no set may hold.
        progress: called as ``progress("samples", done, total)``.

    Raises:
        UserError: ``directory`` is in the way, a sample is bad, or so many are equal that a set
            cannot be filled.
        MissingRequirementError: ``directory`` cannot be written.
    """
    picker = _Picker(source, dict(taken or {}))
    total = sum(sizes_of(pools).values())
    sets: dict[str, Any] = {}
    written = 0
    with _appearing(directory, overwrite=overwrite) as partial:
        for name, pool in pools.items():
            (partial / name).mkdir()
            writer = _SetWriter(partial / name)
            for index, sample, digest in picker.pick(name, pool):
                writer.add(source.names[index], source.groups[index], sample, digest)
                written += 1
                if progress:
                    progress("samples", written, total)
            sets[name] = writer.finish(source=origin, seed=seed)
        if progress:
            progress("samples", total, total)  # duplicates count as done
        content = {"source": origin, "split": split, "seed": seed, "sets": sets}
        _write_json(
            partial / SPLIT_MANIFEST,
            {"schema": SPLIT_SCHEMA, **content, "left_out": picker.left_out},
        )
    return WrittenSplit(
        {name: NpzSamples.open(directory / name) for name in pools}, picker.left_out
    )


class _Picker:
    """Samples of a source whose inputs were not picked before.

    Attributes:
        left_out: name of a sample to that of the one it equals.
    """

    def __init__(self, source: Source, taken: dict[str, str]) -> None:
        self._source = source
        self._taken = taken
        self.left_out: dict[str, str] = {}

    def pick(self, name: str, pool: Pool) -> Iterator[tuple[int, dict[str, Array], str]]:
        """Of the set ``name``: index, sample and hash; the wanted ones in the source's order."""
        first = sorted(pool.indices[: pool.count])
        standing_by = pool.indices[len(first) :]
        missing = len(first)
        for index in (*first, *standing_by):
            if missing == 0:
                return
            sample = self._source.sample(index)
            digest = input_hash(sample)
            key = digest[:DIGEST]  # all that a model file keeps
            if key in self._taken:
                self.left_out[self._source.names[index]] = self._taken[key]
                continue
            self._taken[key] = self._source.names[index]
            missing -= 1
            yield index, sample, digest
        if missing and (pool.count is not None or missing == len(first)):
            raise UserError(
                f"the set {name!r} would hold {len(first) - missing} samples: all others of its "
                f"{len(pool.indices)} are equal to samples that were taken before",
                fix="Ask for fewer, or give a source with fewer copies",
            )


class _SetWriter:
    """Fills one folder with samples and their manifest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.entries: list[dict[str, str]] = []

    def add(self, name: str, group: str, sample: Mapping[str, Array], digest: str) -> None:
        data = npz_bytes(sample)
        file = f"{len(self.entries):04d}-{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.npz"
        (self._folder / file).write_bytes(data)
        hashes = {"sha256": sha256_bytes(data), "inputs_sha256": digest}
        scene = {} if group == name else {"group": group}
        self.entries.append({"name": name, "file": file, **hashes, **scene})

    def finish(self, **origin: Any) -> dict[str, Any]:
        """Write the manifest; returns what a split says of the set."""
        known = {key: value for key, value in origin.items() if value is not None}
        sha256 = set_hash(entry["sha256"] for entry in self.entries)
        manifest = {"schema": SCHEMA, **known, "sha256": sha256, "samples": self.entries}
        _write_json(self._folder / MANIFEST, manifest)
        groups = _distinct(entry["group"] for entry in self.entries if "group" in entry)
        return {"samples": len(self.entries), "sha256": sha256, "groups": groups}


def _distinct(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _appearing(directory: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that takes the place of ``directory`` if the block succeeds."""
    _require_free(directory, overwrite=overwrite)
    partial = _temporary_beside(directory)
    try:
        yield partial
        _replace(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _require_free(directory: Path, *, overwrite: bool) -> None:
    if directory.is_file():
        raise UserError(f"{directory} is a file", fix="Name a folder with -o")
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{directory} exists already", fix="Choose another -o, or pass --overwrite")
    if not any((directory / manifest).is_file() for manifest in (MANIFEST, SPLIT_MANIFEST)):
        raise UserError(
            f"{directory} is no sample set; it is not deleted for one", fix="Choose another -o"
        )


def _temporary_beside(directory: Path) -> Path:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise MissingRequirementError(
            f"cannot write to {directory.parent}: {error.strerror}",
            fix="Choose a writable directory with -o",
        ) from error


def _replace(partial: Path, directory: Path) -> None:
    """Put ``partial`` in the place of ``directory``, whose old content goes last."""
    umask = os.umask(0)
    os.umask(umask)
    partial.chmod(0o777 & ~umask)  # mkdtemp makes 0700; give what mkdir would have given
    if not directory.is_dir():
        partial.rename(directory)
        return
    old = _temporary_beside(directory)
    directory.replace(old)
    partial.rename(directory)
    shutil.rmtree(old)
