"""The stages of a run that are about a language model: integer files, a text, and completions."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.console import plain
from deploy.language.completions import PROMPTS, complete
from deploy.language.perplexity import MEASURES, TextComparison, Window, read_text
from deploy.language.stepping import LanguageModel
from deploy.language.verifying import verify_on_text
from deploy.making import input_hashes
from deploy.modelfacts import model_facts
from deploy.recipe_parts import FP32, LanguagePart
from deploy.stages import StageWork
from deploy.verdict import judge
from deploy.workplace import Workplace
from exporters.files import sha256_bytes, sha256_file
from exporters.variants import export as export_variant

JSON = dict[str, Any]

OUTPUT = "text"
"""Under which measures of a text stand: they compare with the float model as they are."""


def export_integers(place: Workplace) -> list[JSON]:
    """Write ``models/BITS.onnx`` for each of ``language.bits``."""
    part = place.recipe.language
    if part is None:
        return []
    checkpoint = input_hashes(place.recipe.model)
    return [_export(place, part, bits, checkpoint) for bits in part.bits]


def _export(place: Workplace, part: LanguagePart, bits: str, checkpoint: JSON) -> JSON:
    role = bits.lower()
    model = place.recipe.model
    options = {**model.options, **part.options, "bits": bits}
    files = [Path(options[key]) for key in ("text", "factors") if options.get(key)]
    inputs = {
        "options": options,
        "checkpoint": checkpoint,
        "files": [sha256_file(path) for path in files],
    }

    def work(stage: StageWork) -> None:
        result = export_variant(
            model.variant or "",
            place.path(role),
            progress=place.steps(f"export {role}"),
            checkpoint=model.checkpoint,
            overwrite=True,
            **options,
        )
        stage.notes.extend(result.report.get("notes", ()))
        stage.result = {"file": model_facts(role, place.path(role), place.folder)}
        stage.outputs = [place.name(role)]

    return place.store.run(f"export {role}", inputs, work)


def compare_texts(place: Workplace) -> list[JSON]:
    """Every integer file against the float one on ``language.text``; none where none is named."""
    part = place.recipe.language
    if part is None or part.text is None:
        return []
    return [_compare(place, part, Path(part.text), role) for role in place.recipe.language_roles]


def _compare(place: Workplace, part: LanguagePart, text: Path, role: str) -> JSON:
    inputs = {
        "text": sha256_bytes(read_text(text).encode()),
        "window": part.window,
        "max_tokens": part.max_tokens,
        "reference": place.file(FP32).sha256,
        "candidate": place.file(role).sha256,
    }

    def work(stage: StageWork) -> None:
        found = verify_on_text(
            place.path(FP32),
            place.path(role),
            text,
            window=part.window,
            max_tokens=part.max_tokens,
            progress=place.steps(f"verify {role}"),
        )
        broken = judge(
            "perplexity that is no number", not math.isfinite(found.comparison.perplexity), "<=", 0
        )
        stage.result = {
            "name": role,
            "comparison": {"verdict": {"checks": [plain(broken)]}},
            "report": agreement_of(role, found.comparison),
        }
        stage.notes.extend(found.notes)

    return place.store.run(f"verify {role}", inputs, work)


def agreement_of(role: str, found: TextComparison) -> JSON:
    """The entry under ``agreement`` of ``report.json``; a window is a sample."""
    names = [f"window {index + 1}" for index in range(len(found.windows))]
    each = [_of_window(window) for window in found.windows]
    paired = []
    for name, interval in found.measures.items():
        value = {"output": OUTPUT, "unit": "", "reference": None, "candidate": found.value(name)}
        values = [
            {"sample": sample, "value": one[name]} for sample, one in zip(names, each, strict=True)
        ]
        why_not = "" if interval is not None else "one window has no spread"
        paired.append(
            {"name": name, **value, "interval": interval, "values": values, "why_not": why_not}
        )
    summary = {name: found.value(name) for name in ("perplexity_ratio", *MEASURES)}
    entry: JSON = plain(
        {
            "name": f"{role} against {FP32}",
            "reference": f"{FP32}.onnx",
            "candidate": f"{role}.onnx",
            "samples": [
                {"name": name, "outputs": {OUTPUT: one}}
                for name, one in zip(names, each, strict=True)
            ],
            "summary": {**summary, "reference_perplexity": found.reference_perplexity},
            "paired": [
                {"alone": None, "kept": None, "classes": [], "note": "", **p} for p in paired
            ],
            "per_class": None,
            "layers": None,
            "alone": None,
        }
    )
    return entry


def _of_window(window: Window) -> dict[str, float]:
    alone = TextComparison((window,))
    return {name: alone.value(name) for name in MEASURES}


def completions(place: Workplace) -> list[JSON]:
    """Greedy texts of every file, the float one first."""
    part = place.recipe.language
    if part is None or not part.tokens:
        return []
    roles = [FP32, *place.recipe.language_roles]
    prompts = part.prompts or list(PROMPTS)
    inputs = {
        "prompts": prompts,
        "tokens": part.tokens,
        "files": {role: place.file(role).sha256 for role in roles},
    }

    def work(stage: StageWork) -> None:
        with ExitStack() as stack:
            models = {
                role: stack.enter_context(LanguageModel.open(place.path(role))) for role in roles
            }
            found = complete(
                models, prompts, tokens=part.tokens, progress=place.steps("completions")
            )
        stage.result = {"found": [asdict(one) for one in found]}

    found: list[JSON] = place.store.run("completions", inputs, work)["found"]
    return found
