"""The bundle: the folder a run leaves, with a manifest that says what made what.

    BUNDLE/
      manifest.json   SHA-256 of every input and output, stages, versions, times
      report.json     everything that was measured; report.html is drawn from it alone
      report.html     one self-contained page
      recipe.json     the recipe as it was understood, defaults and absolute paths included
      models/ROLE.onnx   engines/…   stages/*.json

While a run is under way it works in ``BUNDLE.partial`` beside it; the folder gets its name when it
is complete, so whatever is called a bundle is whole. An interrupted run is resumed from there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.console import dump_json
from deploy.stages import LOCK
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file, write_text

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
"""Of the manifest, so not in it."""

MANIFEST_SCHEMA = "edgeport.manifest/1"


@dataclass(frozen=True)
class Bundle:
    """A finished bundle."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Raises ``UserError`` where ``path`` is no bundle."""
        if not (path / MANIFEST).is_file():
            raise UserError(
                f"{path} is no bundle: it has no {MANIFEST}",
                fix="Name the folder that `edgeport run` wrote",
            )
        return cls(path)

    @property
    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / MANIFEST).read_text())
        return value

    @property
    def report(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.path / "report.json").read_text())
        return value

    @property
    def page(self) -> Path:
        return self.path / "report.html"

    def differences(self) -> list[str]:
        """Files that are missing, changed or not in the manifest; empty for an intact bundle."""
        listed = {entry["path"]: entry["sha256"] for entry in self.manifest["outputs"]}
        present = set(_relative_files(self.path)) - {MANIFEST, SIGNATURE}
        missing = [f"{path} is missing" for path in sorted(listed.keys() - present)]
        foreign = [f"{path} is not in the manifest" for path in sorted(present - listed.keys())]
        changed = [
            f"{path} was changed"
            for path in sorted(present & listed.keys())
            if sha256_file(self.path / path) != listed[path]
        ]
        return [*missing, *changed, *foreign]


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write ``folder/manifest.json``: ``content``, and every file that lies there with its hash."""
    outputs = [
        {
            "path": path,
            "size_bytes": (folder / path).stat().st_size,
            "sha256": sha256_file(folder / path),
        }
        for path in _relative_files(folder)
        if path not in (MANIFEST, SIGNATURE, LOCK)
    ]
    manifest = {"schema": MANIFEST_SCHEMA, **content, "outputs": outputs}
    write_text(folder / MANIFEST, dump_json(manifest) + "\n", overwrite=True)


def partial_path(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".partial")


@contextmanager
def under_construction(bundle: Path, *, overwrite: bool, fresh: bool) -> Iterator[Path]:
    """Yield the folder to build ``bundle`` in; give it its name when the block succeeds.

    Args:
        overwrite: replace a bundle that exists; its stages are reused where nothing changed.
        fresh: begin with an empty folder, whatever an earlier run left.

    Raises:
        UserError: the bundle exists, is no bundle, or another run is building it.
        MissingRequirementError: the folder cannot be written.
    """
    _require_replaceable(bundle, overwrite=overwrite)
    partial = partial_path(bundle)
    try:
        if fresh:
            shutil.rmtree(partial, ignore_errors=True)
        elif bundle.is_dir() and not partial.exists():
            _copy_whole(bundle, partial)
        partial.mkdir(parents=True, exist_ok=True)
        (partial / LOCK).touch()
    except OSError as error:
        raise MissingRequirementError(
            f"cannot write to {bundle.parent}: {error.strerror}",
            fix="Choose a writable folder with -o",
        ) from error
    with _locked(partial, bundle):
        yield partial
        (partial / LOCK).unlink()
        _take_the_place(partial, bundle)


def _copy_whole(bundle: Path, partial: Path) -> None:
    """Copy under another name first: a kill must not leave half of the stages as if all."""
    copying = bundle.with_name(f".{bundle.name}.copying")
    shutil.rmtree(copying, ignore_errors=True)
    shutil.copytree(bundle, copying, copy_function=_link_or_copy)
    copying.replace(partial)


def _take_the_place(partial: Path, bundle: Path) -> None:
    """Give ``partial`` its name. Killed anywhere in here, one of the two is whole."""
    replaced = bundle.with_name(f".{bundle.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if bundle.is_dir():
        bundle.replace(replaced)
    partial.replace(bundle)
    shutil.rmtree(replaced, ignore_errors=True)


def _require_replaceable(bundle: Path, *, overwrite: bool) -> None:
    if not bundle.exists():
        return
    if not (bundle / MANIFEST).is_file():
        raise UserError(
            f"{bundle} exists and is no bundle, so it is not replaced", fix="Choose another -o"
        )
    if not overwrite:
        raise UserError(f"{bundle} exists already", fix="Choose another -o, or pass --overwrite")


@contextmanager
def _locked(folder: Path, bundle: Path) -> Iterator[None]:
    import fcntl

    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another edgeport run is writing {bundle}", fix="Wait for it, or choose another -o"
            ) from error
        yield


def _link_or_copy(source: str, target: str) -> None:
    # every file is replaced by rename and never written in place, so sharing it is safe
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _relative_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
