"""``edgeport rebuild --verify``: make a bundle's files again and compare every byte.

Export and quantization are deterministic, so the same inputs and the same edgeport give the same
model files. Engines are not compared: a builder chooses kernels by timing them. Times and
latencies, and so ``report.json``, differ from run to run and are not files of the model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from deploy import making
from deploy.bundle import Bundle
from deploy.language import bundling
from deploy.recipe import Recipe
from deploy.stages import StageStore, source_sha256
from deploy.strict import explain
from deploy.workplace import Workplace
from exporters.errors import EXIT_OK, EXIT_VERDICT_FAIL, UserError
from exporters.files import sha256_file
from runtimes.base import Progress

Outcome = Literal["the same", "differs", "not made again", "not compared"]

_PLACES = ("models/", "engines/")


@dataclass(frozen=True)
class Remade:
    """One file of the bundle; ``was`` and ``now`` are SHA-256s."""

    path: str
    outcome: Outcome
    was: str
    now: str | None = None


@dataclass(frozen=True)
class Rebuild:
    """What came of it.

    Attributes:
        files: every model file and engine of the bundle.
        changes: inputs and versions that are not what they were: why something may differ.
    """

    files: tuple[Remade, ...]
    changes: tuple[str, ...]

    @property
    def is_the_same(self) -> bool:
        return all(file.outcome in ("the same", "not compared") for file in self.files)

    @property
    def exit_code(self) -> int:
        return EXIT_OK if self.is_the_same else EXIT_VERDICT_FAIL


def recipe_of(bundle: Bundle) -> Recipe:
    """The recipe that a bundle was made by.

    Raises:
        UserError: it is of another edgeport.
    """
    text = (bundle.path / "recipe.json").read_text()
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise UserError(
            f"{bundle.path / 'recipe.json'}: {explain(error, Recipe)}",
            fix="Rebuild it with the edgeport that made it; manifest.json names the version",
        ) from error


def rebuild_and_compare(bundle: Bundle, progress: Progress | None = None) -> Rebuild:
    """Export, quantize and cast again in a temporary folder, and compare with the manifest.

    Raises:
        UserError: the bundle was changed since, or an input is not there any more.
    """
    changed = bundle.differences()
    if changed:
        raise UserError(
            f"{bundle.path} is not as it was made: {'; '.join(changed[:3])}",
            fix="Take an intact copy; a bundle is compared with its own manifest",
        )
    with tempfile.TemporaryDirectory(prefix="edgeport-rebuild-") as folder:
        place = Workplace(recipe_of(bundle), Path(folder), StageStore(Path(folder)), progress)
        making.export(place)
        making.quantize(place)
        making.cast(place)
        bundling.export_integers(place)
        files = tuple(_compared(bundle, Path(folder)))
        changes = tuple(_changes(bundle.manifest, place))
    return Rebuild(files, changes)


def _compared(bundle: Bundle, folder: Path) -> Iterator[Remade]:
    for entry in bundle.manifest["outputs"]:
        path, was = entry["path"], entry["sha256"]
        if not path.startswith(_PLACES):
            continue
        if path.startswith("engines/"):
            yield Remade(path, "not compared", was)
        elif not (folder / path).is_file():
            yield Remade(path, "not made again", was)
        elif path.endswith(".budget.json"):  # holds latencies of its search
            yield Remade(path, "not compared", was, sha256_file(folder / path))
        else:
            now = sha256_file(folder / path)
            yield Remade(path, "the same" if now == was else "differs", was, now)


def _changes(manifest: dict[str, Any], place: Workplace) -> Iterator[str]:
    """Inputs, edgeport and libraries that are not what they were."""
    from runtimes.machine import environment

    then = {entry["name"]: entry["sha256"] for entry in manifest["inputs"]}
    export = next(record for record in place.store.records if record.name == "export")
    now = dict(export.inputs["sha256"]) | {k: one.sha256 for k, one in place.sets.items()}
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"{name} is not what it was"
    code = next((s["inputs"].get("code_sha256") for s in manifest["stages"]), None)
    if code != source_sha256():
        yield "edgeport's own source is another one"
    versions = manifest["environment"].get("versions", {})
    for name, version in environment(None)["versions"].items():
        if versions.get(name) != version:
            yield f"{name} is {version or 'absent'}, it was {versions.get(name) or 'absent'}"


def to_json(rebuild: Rebuild) -> dict[str, Any]:
    """Schema ``edgeport.rebuild/1``."""
    return {
        "schema": "edgeport.rebuild/1",
        "same": rebuild.is_the_same,
        "files": [file.__dict__ for file in rebuild.files],
        "changes": list(rebuild.changes),
    }
