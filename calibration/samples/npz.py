"""Sample sets as folders of ``.npz`` files with a manifest, written once and read many times.

``samples.json`` names every sample with the SHA-256 of its file, so a truncated, exchanged or
edited file is found when it is read. Files are zip archives of ``.npy`` members, stored in sorted
order with a fixed date and without compression: the same samples give the same bytes everywhere.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.samples.base import Array, Sample, Samples
from calibration.samples.checks import checked
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file
from exporters.modelfile import ModelSpec, canonical_json

MANIFEST = "samples.json"
SCHEMA = "edgeport.samples/1"

Progress = Callable[[str, int, int], None]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold


class NpzSamples:
    """Samples in ``.npz`` files, one a file.

    Args:
        files: name of the sample to its file, in order.
        hashes: name to the SHA-256 that the manifest promises; empty without a manifest.
        spec: of the model that takes them; None to check values only.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        spec: ModelSpec | None = None,
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        self._files = dict(files)
        self._hashes = dict(hashes or {})
        self._spec = spec

    @classmethod
    def open(cls, path: Path, spec: ModelSpec | None = None) -> NpzSamples:
        """A folder of ``.npz`` files, with or without manifest, or one such file.

        Raises:
            UserError: nothing there, a damaged manifest, or a file of it is missing.
        """
        if path.is_file():
            return cls({path.stem: path}, spec)
        if (path / MANIFEST).is_file():
            files, hashes = _read_manifest(path)
            return cls(files, spec, hashes)
        files = {file.stem: file for file in sorted(path.glob("*.npz"))}
        if not files:
            raise UserError(f"{path} holds no samples", fix="Make some with: edgeport samples")
        return cls(files, spec)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    @property
    def sha256(self) -> str:
        """Hash of all file hashes in order; equal files give equal hashes wherever they lie."""
        hashes = [self._hashes.get(n) or sha256_file(f) for n, f in self._files.items()]
        return sha256_bytes(canonical_json(hashes).encode())

    def subset(self, indices: Sequence[int]) -> NpzSamples:
        """The samples at ``indices``, in that order."""
        files = {self.names[index]: self._files[self.names[index]] for index in indices}
        return NpzSamples(files, self._spec, self._hashes)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for name, file in self._files.items():
            yield checked(read_npz(file, self._hashes.get(name)), name, self._spec)


def write_samples(
    samples: Samples,
    directory: Path,
    *,
    source: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> NpzSamples:
    """Write a sample set as a folder that :meth:`NpzSamples.open` reads.

    The folder appears complete or not at all.

    Args:
        samples: written in order; one at a time is in memory.
        directory: must not exist, unless it is empty, or ``overwrite`` is true and it is a sample
            set.
        source: where the samples come from, for the manifest.
        progress: called as ``progress("samples", done, total)``.

    Raises:
        UserError: ``directory`` is in the way, or a sample is bad.
        MissingRequirementError: ``directory`` cannot be written.
    """
    _require_free(directory, overwrite=overwrite)
    partial = _temporary_beside(directory)
    try:
        entries = []
        for index, (name, sample) in enumerate(zip(samples.names, samples, strict=True)):
            data = npz_bytes(sample)
            file = f"{index:04d}-{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.npz"
            (partial / file).write_bytes(data)
            entries.append({"name": name, "file": file, "sha256": sha256_bytes(data)})
            if progress:
                progress("samples", index + 1, len(samples))
        manifest = {"schema": SCHEMA, "source": source, "samples": entries}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        _replace(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return NpzSamples.open(directory)


def npz_bytes(sample: Sample) -> bytes:
    """One sample as an uncompressed ``.npz`` archive with deterministic bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(sample):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(sample[key]), allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy", date_time=_EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every platform
            archive.writestr(info, member.getvalue())
    return stream.getvalue()


def read_npz(path: Path, sha256: str | None = None) -> dict[str, Array]:
    """The arrays of one file.

    Args:
        sha256: what the file's hash must be; None to take it as it is.

    Raises:
        UserError: missing, truncated, changed, or no ``.npz`` file of plain arrays.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read sample {path}: {error.strerror}") from error
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} is truncated or no .npz file of plain arrays",
            fix="Make the samples again with: edgeport samples",
        ) from error
    if sha256 is not None and sha256_bytes(data) != sha256:
        raise UserError(
            f"{path} is not the file that {MANIFEST} beside it describes",
            fix="Make the samples again, or delete the manifest to take the files as they are",
        )
    return arrays


def _read_manifest(directory: Path) -> tuple[dict[str, Path], dict[str, str]]:
    path = directory / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text())
        if manifest["schema"] != SCHEMA:
            raise UserError(
                f"{path} has schema {manifest['schema']!r}, this edgeport reads {SCHEMA!r}",
                fix="Make the samples again with: edgeport samples",
            )
        entries = {entry["name"]: entry for entry in manifest["samples"]}
        files = {name: directory / Path(entry["file"]).name for name, entry in entries.items()}
        hashes = {name: str(entry["sha256"]) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: {error!r}", fix="Make the samples again with: edgeport samples"
        ) from error
    if not files:
        raise UserError(f"{directory} holds no samples", fix="Make some with: edgeport samples")
    for file in files.values():
        if not file.is_file():
            raise UserError(f"{file} is missing, but {MANIFEST} names it")
    return files, hashes


def _require_free(directory: Path, *, overwrite: bool) -> None:
    if directory.is_file():
        raise UserError(f"{directory} is a file", fix="Name a folder with -o")
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{directory} exists already", fix="Choose another -o, or pass --overwrite")
    if not (directory / MANIFEST).is_file():
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
