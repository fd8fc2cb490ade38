"""From the results of all stages to ``report.json`` and to the head of ``manifest.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from calibration.samples.findings import UNSTABLE_RANGES
from deploy.contract.contracts import verdict_on
from deploy.contract.reading import evidence_of_report
from deploy.provenance.licences import UNKNOWN, Licence, warnings_of
from deploy.recipe_parts import EnginePart
from deploy.verdict import Check, Verdict, judge
from deploy.waterfall import waterfall_of
from deploy.workplace import Workplace
from exporters.files import sha256_bytes
from exporters.modelfile import canonical_json

JSON = dict[str, Any]

REPORT_SCHEMA = "edgeport.report/2"


@dataclass(frozen=True)
class Results:
    """What the stages gave, as JSON."""

    export: JSON
    quantize: list[JSON]
    cast: JSON | None
    engines: list[JSON]
    benchmark: JSON | None
    verify: list[JSON]
    boards: list[JSON]
    scenes: JSON
    waterfall: list[JSON]
    integers: list[JSON] = field(default_factory=list)
    texts: list[JSON] = field(default_factory=list)
    completions: list[JSON] = field(default_factory=list)

    @property
    def comparisons(self) -> list[JSON]:
        """Those that were made, here and on boards."""
        return [
            *self.verify,
            *self.texts,
            *(board for board in self.boards if not board.get("missing")),
        ]


def report_of(place: Workplace, results: Results) -> JSON:
    """The whole ``report.json``."""
    from runtimes.machine import environment

    spec = place.spec
    report: JSON = {
        "schema": REPORT_SCHEMA,
        "title": place.recipe.title or f"{spec.variant}: FP32 against INT8",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "notes": _notes(place),
        "environment": environment(place.threads),
        "verdict": None,
        "model": {
            "variant": spec.variant,
            "family": spec.family,
            "task": spec.task,
            "weights": str(spec.weights),
            "parameters": results.export["parameters"],
            "classes": list(spec.classes),
            "files": _files(results),
        },
        "stages": [record.to_report() for record in place.store.records],
        "samples": _samples(place, results),
        "quantization": [made["report"] for made in results.quantize],
        "engines": [_engine(engine) for engine in results.engines],
        "latency": None if results.benchmark is None else _latency(results.benchmark),
        "agreement": [result["report"] for result in results.comparisons],
        "waterfall": waterfall_of(
            results.waterfall, place.recipe, results.engines, results.verify, results.boards
        ),
        "occupancy": results.scenes.get("occupancy", []),
        "detection": results.scenes.get("detection", []),
        "completions": results.completions,
    }
    report["verdict"] = _verdict(place, results, report).to_json()
    return report


def manifest_of(place: Workplace, report: JSON) -> JSON:
    """What ``manifest.json`` says besides the list of files."""
    recipe = place.recipe.model_dump(by_alias=True)
    return {
        "created": report["created"],
        "environment": report["environment"],
        "verdict": report["verdict"]["status"],
        "recipe_sha256": sha256_bytes(canonical_json(recipe).encode()),
        "inputs": _inputs(place),
        "licences": [{"part": one.part, "licence": one.name} for one in _licences(place)],
        "stages": [
            {
                "name": record.name,
                "key": record.key,
                "inputs": record.inputs,
                "outputs": record.outputs,
                "seconds": record.seconds,
                "peak_rss_mib": record.peak_rss_mib,
                "cached": record.cached,
            }
            for record in place.store.records
        ],
    }


def _inputs(place: Workplace) -> list[JSON]:
    """What came from outside: weights, rig, samples."""
    export = next(record for record in place.store.records if record.name == "export")
    files = [
        {"name": key, "source": getattr(place.recipe.model, key), "sha256": sha256}
        for key, sha256 in export.inputs["sha256"].items()
    ]
    return files + [
        {"name": name, "source": one.source, "sha256": one.sha256, "samples": one.digests}
        for name, one in place.sets.items()
    ]


def _samples(place: Workplace, results: Results) -> JSON | None:
    """The sets and what the doctor says of them; ranges belong to single files."""
    if not place.sets:
        return None
    nothing: JSON = {"findings": [], "overridden": []}
    made = results.quantize
    described = made[0]["report"]["calibration_set"] if made else nothing
    return {
        "sets": [one.to_report() for one in place.sets.values()],
        "shared": len(_shared(place)),
        "findings": [f for f in described["findings"] if f["code"] != UNSTABLE_RANGES],
        "overridden": described["overridden"],
    }


def _shared(place: Workplace) -> list[str]:
    """Evaluation samples that scales were taken from."""
    calibration, evaluation = place.sets.get("calibration"), place.sets.get("evaluation")
    if calibration is None or evaluation is None:
        return []
    return evaluation.shared_with(calibration)


def _licences(place: Workplace) -> list[Licence]:
    """Of the weights, as the model file or the recipe says it, and of each sample set."""
    own = place.spec.weights.licence
    named: dict[str, str] = {"weights": own} if own else {}
    named.update({str(part): name for part, name in place.recipe.licences.items()})
    return [Licence(part, named.get(part, UNKNOWN)) for part in ("weights", *place.sets)]


def _notes(place: Workplace) -> list[str]:
    notes = warnings_of(_licences(place))
    if place.spec.weights.kind == "random":
        notes.append(
            f"{str(place.spec.weights).capitalize()}: latency and agreement are real, "
            "what the network predicts means nothing."
        )
    shared = _shared(place)
    if shared:
        notes.append(
            f"{len(shared)} of {len(place.required('evaluation').digests)} evaluation samples "
            "were used for calibration too, so the agreement flatters INT8."
        )
    return notes


def _files(results: Results) -> list[JSON]:
    files = [results.export["file"]]
    if results.cast is not None:
        files.append(results.cast["file"])
    return files + [made["file"] for made in (*results.quantize, *results.integers)]


def _engine(engine: JSON) -> JSON:
    findings = list(engine["findings"])
    if engine["missing"]:
        findings.append({"severity": "note", "message": engine["missing"]})
    return {"name": engine["name"], "passport": engine["passport"], "findings": findings}


def _latency(benchmark: JSON) -> JSON:
    from runtimes.timing import CONFIDENCE

    keys = (
        "name",
        "runtime",
        "latencies_ms",
        "percentiles",
        "throughput_hz",
        "ratio_to_reference",
        "peak_rss_mib",
    )
    return {
        "threads": benchmark["threads"],
        "runs": benchmark["runs"],
        "confidence": CONFIDENCE,
        "cases": [{key: case[key] for key in keys} for case in benchmark["cases"]],
    }


def _verdict(place: Workplace, results: Results, report: JSON) -> Verdict:
    """What always has to hold, then the contract's terms."""
    checks = [
        Check(**{**check, "name": f"{result['name']}: {check['name']}"})
        for result in results.comparisons
        for check in result["comparison"]["verdict"]["checks"]
    ]
    checks += [
        _engine_check(part, engine)
        for part, engine in zip(place.recipe.engines, results.engines, strict=True)
        if part.required
    ]
    checks += [
        judge(part.name, None, ">=", 1, unit="compared", note=board["missing"])
        for part, board in zip(place.recipe.boards, results.boards, strict=True)
        if part.required and board.get("missing")
    ]
    checks += [
        _budget_check(made["file"]["role"], row)
        for made in results.quantize
        for row in made["report"].get("budget", {}).get("scores", ())
    ]
    kept = verdict_on(place.recipe.contract, evidence_of_report(report))
    return Verdict((*checks, *kept.checks))


def _engine_check(part: EnginePart, engine: JSON) -> Check:
    built = 0.0 if engine["missing"] else 1.0
    name = f"engine from {part.source} for {part.runtime}"
    return judge(name, built or None, ">=", 1, unit="built", note=engine["missing"])


def _budget_check(role: str, row: JSON) -> Check:
    comparison: Literal[">=", "<="] = "<=" if "<=" in row["condition"] else ">="
    name = f"{role}: {row['metric']} on the validation set"
    return judge(name, row["value"], comparison, row["bound"])
