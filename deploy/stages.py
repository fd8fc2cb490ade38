"""Stages that remember: a stage whose inputs have not changed is not run again.

A stage's *key* is the SHA-256 of its name, of everything it depends on (options, and the SHA-256 of
every input file) and of edgeport's own source. Its record is written when the stage is complete:

    FOLDER/stages/quantize.json   key, inputs, result, outputs with SHA-256, seconds, peak memory

The next run with the same key takes result and outputs from the record, provided that the outputs
are still there and still the same. So a run that was interrupted goes on where it stopped, and a
changed recipe redoes what depends on the change and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from calibration.observing.memory import PeakMemory
from deploy.console import dump_json, plain
from exporters.errors import EdgeportError
from exporters.files import sha256_bytes, sha256_file, write_text
from exporters.modelfile import canonical_json

JSON = dict[str, Any]

LOCK = ".lock"
"""In the run's folder while somebody works there."""

_PACKAGES = ("exporters", "calibration", "runtimes", "deploy")


@dataclass
class StageWork:
    """What a running stage hands in.

    Attributes:
        result: JSON that later stages and the report read.
        outputs: files it wrote, relative to the run's folder.
        notes: one sentence each, for the report.
    """

    result: JSON = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Attributes:
        outputs: path relative to the run's folder to SHA-256.
        peak_rss_mib: largest resident memory of this process and its children meanwhile.
        cached: taken from an earlier run; ``seconds`` is then what it took at that time.
    """

    name: str
    key: str
    inputs: JSON
    result: JSON
    outputs: dict[str, str]
    notes: tuple[str, ...]
    seconds: float
    peak_rss_mib: float
    cached: bool = False

    def to_report(self) -> JSON:
        """The entry under ``stages`` of ``report.json``."""
        keys = ("name", "seconds", "peak_rss_mib", "cached", "notes")
        return {key: plain(getattr(self, key)) for key in keys}


class StageStore:
    """Runs stages in a folder and keeps their records there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[StageRecord] = []

    def run(self, name: str, inputs: Mapping[str, Any], work: Callable[[StageWork], None]) -> JSON:
        """The stage's result, from its record if ``inputs`` are as they were, else from ``work``.

        Args:
            name: unique in the run; also the name of the record's file.
            inputs: everything that ``work`` depends on, as JSON: options and SHA-256s of files.
            work: fills in the ``StageWork`` it is given.

        Raises:
            EdgeportError: of ``work``, with the stage's name before it.
        """
        described: JSON = plain(inputs)
        described["code_sha256"] = source_sha256()
        key = sha256_bytes(canonical_json([name, described]).encode())
        record = self._remembered(name, key)
        if record is None:
            record = self._work(name, key, described, work)
            text = dump_json(asdict(record))
            write_text(self._record_path(name), text + "\n", overwrite=True)
        self.records.append(record)
        return record.result

    def _work(
        self, name: str, key: str, inputs: JSON, work: Callable[[StageWork], None]
    ) -> StageRecord:
        stage = StageWork()
        started = time.perf_counter()
        try:
            with PeakMemory(children=True) as peak:
                work(stage)
        except EdgeportError as error:
            error.message = f"{name}: {error.message}"
            raise
        return StageRecord(
            name=name,
            key=key,
            inputs=inputs,
            result=plain(stage.result),
            outputs={path: sha256_file(self.folder / path) for path in stage.outputs},
            notes=tuple(stage.notes),
            seconds=round(time.perf_counter() - started, 3),
            peak_rss_mib=round(peak.mib, 1),
        )

    def _remembered(self, name: str, key: str) -> StageRecord | None:
        try:
            values = json.loads(self._record_path(name).read_text())
            record = StageRecord(**{**values, "notes": tuple(values["notes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None  # none yet, or damaged: the stage runs again
        same = record.key == key and all(
            (self.folder / path).is_file() and sha256_file(self.folder / path) == sha256
            for path, sha256 in record.outputs.items()
        )
        return replace(record, cached=True) if same else None

    def _record_path(self, name: str) -> Path:
        return self.folder / "stages" / f"{name.replace(' ', '-')}.json"

    def forget_others(self) -> list[Path]:
        """Delete records and outputs of stages that this run did not have; returns what went."""
        kept = {self._record_path(record.name) for record in self.records}
        kept |= {self.folder / path for record in self.records for path in record.outputs}
        stale = [path for path in _files(self.folder) if path not in kept]
        for path in stale:
            path.unlink()
        return stale


def _files(folder: Path) -> Iterable[Path]:
    """Everything but the run's own lock; what a kill left half-written is hidden, and is here."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LOCK)


@cache
def source_sha256() -> str:
    """Hash of edgeport's own source: other code may give other results from the same inputs."""
    root = Path(__file__).parent.parent
    files = sorted(path for package in _PACKAGES for path in (root / package).rglob("*.py"))
    digests = [f"{path.relative_to(root).as_posix()} {sha256_file(path)}" for path in files]
    return sha256_bytes("\n".join(digests).encode())
