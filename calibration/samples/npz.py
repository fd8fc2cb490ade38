"""Sample sets as folders of ``.npz`` files with a manifest, written once and read many times.

``samples.json`` names every sample with the SHA-256 of its file, so a truncated, exchanged or
edited file is found when it is read, and with the SHA-256 of its inputs, by which sets are held
apart. Files are zip archives of ``.npy`` members, stored in sorted order with a fixed date and
without compression: the same samples give the same bytes everywhere.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.samples.base import Array, Sample, input_hash
from calibration.samples.checks import checked
from exporters.errors import UserError
from exporters.files import sha256_bytes, sha256_file
from exporters.modelfile import ModelSpec, canonical_json

MANIFEST = "samples.json"
SCHEMA = "edgeport.samples/1"

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold


@dataclass(frozen=True)
class NpzEntry:
    """One sample of a folder; what only a manifest knows is None or empty without one.

    Attributes:
        sha256: of the file.
        inputs_sha256: what `input_hash` says of the arrays.
        group: scene or sequence.
    """

    file: Path
    sha256: str | None = None
    inputs_sha256: str | None = None
    group: str = ""


class NpzSamples:
    """Samples in ``.npz`` files, one a file.

    Args:
        entries: name of the sample to what is known of it, in order.
        spec: of the model that takes them; None to check values only.
    """

    def __init__(self, entries: Mapping[str, NpzEntry], spec: ModelSpec | None = None) -> None:
        self._entries = dict(entries)
        self._spec = spec

    @classmethod
    def open(cls, path: Path, spec: ModelSpec | None = None) -> NpzSamples:
        """A folder of ``.npz`` files, with or without manifest, or one such file.

        Raises:
            UserError: nothing there, a damaged manifest, or a file of it is missing.
        """
        if path.is_file():
            return cls({path.stem: NpzEntry(path)}, spec)
        if (path / MANIFEST).is_file():
            return cls(_read_manifest(path), spec)
        entries = {file.stem: NpzEntry(file) for file in sorted(path.glob("*.npz"))}
        if not entries:
            raise UserError(f"{path} holds no samples", fix="Make some with: edgeport samples")
        return cls(entries, spec)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    @property
    def groups(self) -> tuple[str, ...]:
        """Scene or sequence of each sample, its name where none is known."""
        return tuple(entry.group or name for name, entry in self._entries.items())

    @property
    def sha256(self) -> str:
        """Hash of all file hashes in order; equal files give equal hashes wherever they lie."""
        return set_hash(entry.sha256 or sha256_file(entry.file) for entry in self._entries.values())

    def input_hashes(self) -> Iterator[str]:
        """`input_hash` of every sample; nothing is read where a manifest says it."""
        for index, entry in enumerate(self._entries.values()):
            yield entry.inputs_sha256 or input_hash(self.sample(index))

    def sample(self, index: int) -> dict[str, Array]:
        """Read now, and checked.

        Raises:
            UserError: damaged, or not what the model takes.
        """
        name = self.names[index]
        entry = self._entries[name]
        return checked(read_npz(entry.file, entry.sha256), name, self._spec)

    def subset(self, indices: Sequence[int]) -> NpzSamples:
        """The samples at ``indices``, in that order."""
        names = [self.names[index] for index in indices]
        return NpzSamples({name: self._entries[name] for name in names}, self._spec)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self.sample(index) for index in range(len(self)))


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


def set_hash(files: Iterable[str]) -> str:
    """SHA-256 of a set from those of its files, in order."""
    return sha256_bytes(canonical_json(list(files)).encode())


def _read_manifest(directory: Path) -> dict[str, NpzEntry]:
    path = directory / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text())
        if manifest["schema"] != SCHEMA:
            raise UserError(
                f"{path} has schema {manifest['schema']!r}, this edgeport reads {SCHEMA!r}",
                fix="Make the samples again with: edgeport samples",
            )
        entries = {
            entry["name"]: NpzEntry(
                directory / Path(entry["file"]).name,
                str(entry["sha256"]),
                entry.get("inputs_sha256"),  # sets of edgeport 0.1.0 lack it
                entry.get("group", ""),
            )
            for entry in manifest["samples"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: {error!r}", fix="Make the samples again with: edgeport samples"
        ) from error
    if not entries:
        raise UserError(f"{directory} holds no samples", fix="Make some with: edgeport samples")
    for entry in entries.values():
        if not entry.file.is_file():
            raise UserError(f"{entry.file} is missing, but {MANIFEST} names it")
    return entries
