"""From the JSON that runs, comparisons and benchmarks leave to the evidence of every file.

edgeport run … → report.json         edgeport verify --json         edgeport bench --json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from deploy.contract.evidence import FileEvidence, MetricEvidence, suspects_of
from deploy.provenance.loading import require_as_signed
from exporters.errors import UserError

JSON = Mapping[str, Any]

REFERENCE = "fp32"
_AGAINST = " against "


def read_evidence(path: Path) -> list[FileEvidence]:
    """The evidence in a bundle's folder, or in a JSON file that a command wrote.

    Raises:
        UserError: no such file, not JSON, of a schema that holds no evidence, or not as it was
            signed.
    """
    require_as_signed(path)
    source = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(source.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read {source}: {error.strerror}",
            fix="Name a bundle, or what verify --json or bench --json wrote",
        ) from error
    except ValueError as error:
        raise UserError(f"{source} is not JSON: {error}", fix="Write it again") from error
    schema = data.get("schema", "") if isinstance(data, dict) else ""
    readers = {
        "edgeport.report": evidence_of_report,
        "edgeport.comparison": _of_comparison,
        "edgeport.bench": _of_bench,
        "edgeport.board-bench": _of_boards,
    }
    reader = readers.get(str(schema).partition("/")[0])
    if reader is None:
        raise UserError(
            f"{source} holds no evidence: its schema is {schema or 'not named'!r}",
            fix="Name a bundle, or what verify --json or bench --json wrote",
        )
    return reader(data)


def evidence_of_report(report: JSON) -> list[FileEvidence]:
    """Of every model file and every engine of a ``report.json``."""
    found: dict[str, FileEvidence] = {}
    for file in report["model"]["files"]:
        found[file["role"]] = FileEvidence(file["role"], model_bytes=file["size_bytes"])
    for engine in report["engines"] or ():
        name, size = engine["name"], engine["passport"].get("size_bytes")
        missing = "" if size is not None else _reason(engine["findings"])
        found[name] = FileEvidence(name, engine_bytes=size, missing=missing)
    for entry in report["agreement"] or ():
        name = entry["name"].partition(_AGAINST)[0]
        metrics = tuple(MetricEvidence.from_json(one) for one in entry["paired"])
        known = found.get(name, FileEvidence(name))
        found[name] = replace(known, metrics=metrics, suspects=suspects_of(entry.get("alone")))
    for case in (report["latency"] or {"cases": ()})["cases"]:
        name = case["name"]
        found[name] = replace(found.get(name, FileEvidence(name)), latency=case)
    return list(found.values())


def merged(evidence: list[FileEvidence]) -> list[FileEvidence]:
    """One entry a name: what a later source says of a file is added to what was known."""
    found: dict[str, FileEvidence] = {}
    for file in evidence:
        known = found.setdefault(file.name, file)
        if known is not file:
            news = {key: value for key, value in file.__dict__.items() if value}
            found[file.name] = replace(known, **news)
    return list(found.values())


def _of_comparison(comparison: JSON) -> list[FileEvidence]:
    metrics = tuple(MetricEvidence.from_json(one) for one in comparison["paired"])
    suspects = suspects_of(comparison.get("alone"))
    return [FileEvidence(_role(comparison["candidate"]), metrics=metrics, suspects=suspects)]


def _of_bench(result: JSON) -> list[FileEvidence]:
    return [FileEvidence(_role(case["name"]), latency=case) for case in result["cases"]]


def _of_boards(result: JSON) -> list[FileEvidence]:
    """Latency and energy of every case; of several boards with the board's name."""
    found = []
    boards = result["boards"]
    for board in boards:
        energies = (board["energy"] or {}).get("cases", [])
        for index, case in enumerate(board["cases"]):
            name = _role(case["name"])
            found.append(
                FileEvidence(
                    name if len(boards) == 1 else f"{name} on {board['name']}",
                    latency=case,
                    energy=energies[index] if index < len(energies) else None,
                    engine_bytes=case["size_bytes"] if case["engine"] else None,
                )
            )
    return found


def _role(file_name: str) -> str:
    """``int8-tensorrt`` for ``int8-tensorrt.onnx``: what a bundle calls it."""
    name = PurePath(file_name).name
    return name.removesuffix(".onnx").removesuffix(".engine")


def _reason(findings: list[Any]) -> str:
    last = findings[-1] if findings else ""
    return str(last.get("message", "")) if isinstance(last, dict) else str(last)
