"""One layer's scale doubled: does the contract fail, and is that layer named first?

    python benchmarks/provoked_loss.py            # about 5 minutes of one core

A recipe on the trained ``flashocc-mini`` is run as it is, then with a quantizer that doubles the
scale of one layer's weights in the file it wrote: the layer's output doubles, the file stays valid,
and nothing but a comparison can tell. Layers are drawn by a seed from all quantized ones; the first
goes through the whole recipe, the others through ``verify`` with the same contract. Predicted
before the first run: a loss of at least one point of mIoU, a verdict "fail" and the right name, for
every layer.

Results go to ``benchmarks/results/provoked_loss.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import calibration
from calibration.graph.queries import WEIGHTED
from calibration.samples import open_samples
from deploy import Recipe, run, verify
from exporters.files import write_bytes
from exporters.modelfile import ModelFile
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "provoked_loss.json"
ROLE = "int8-onnxruntime"
RECIPE: dict[str, Any] = {
    "model": {"variant": "flashocc-mini"},
    "samples": {"calibration": "synthetic:8:1", "evaluation": "synthetic:24:1000"},
    "quantization": {"scales": "minmax", "policies": ["onnxruntime"], "correct_bias": False},
    "benchmark": None,
    "verify": {"metric": "miou", "scenes": 0, "waterfall": 0},
    "contract": {"require": ["miou>=fp32-1"]},
}


def quantized_layers(path: Path) -> dict[str, str]:
    """Weighted nodes of a Q/DQ file in graph order, and the name of the scale of their weights."""
    graph = ModelFile(path).proto.graph
    scales = {n.output[0]: n.input[1] for n in graph.node if n.op_type == "DequantizeLinear"}
    return {
        node.name: scales[node.input[1]]
        for node in graph.node
        if node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in scales
    }


def double_scale(path: Path, node: str) -> None:
    """Double the scale of the weights of ``node`` in the Q/DQ file at ``path``."""
    from onnx import numpy_helper

    model = ModelFile(path).proto
    name = quantized_layers(path)[node]
    for tensor in model.graph.initializer:
        if tensor.name == name:
            doubled = numpy_helper.to_array(tensor) * 2
            tensor.CopyFrom(numpy_helper.from_array(doubled, name))
    write_bytes(path, model.SerializeToString(), overwrite=True)


@contextmanager
def spoiling(node: str) -> Iterator[None]:
    """The quantizer, but one scale of what it writes is doubled."""
    quantize = calibration.quantize

    def spoiled(*arguments: Any, **options: Any) -> Any:
        result = quantize(*arguments, **options)
        double_scale(Path(arguments[2]), node)
        return result

    with mock.patch.object(calibration, "quantize", spoiled):
        yield


def judged(checks: list[dict[str, Any]], node: str, alone: list[dict[str, Any]]) -> dict[str, Any]:
    """The term on mIoU, and whether ``node`` is the first that it names."""
    check = next(check for check in checks if check["term"])
    worst = sorted((one for one in alone if one["sqnr_db"] is not None), key=lambda o: o["sqnr_db"])
    named = check["note"].removeprefix("by itself loses most: ").partition(" (")[0]
    return {
        "miou_loss_points": check["value"],
        "interval": [check["low"], check["high"]],
        "holds": check["ok"],
        "note": check["note"],
        "named_first": named == node,
        "own_sqnr_db": [round(one["sqnr_db"], 1) for one in worst[:2]],
    }


def measure(layers: int, seed: int, recipe: dict[str, Any] = RECIPE) -> dict[str, Any]:
    parsed = Recipe.model_validate(recipe)
    with tempfile.TemporaryDirectory(prefix="edgeport-provoked-") as scratch:
        intact = run(parsed, Path(scratch) / "intact")
        good = intact.path / "models" / f"{ROLE}.onnx"
        names = list(quantized_layers(good))
        chosen = random.Random(seed).sample(names, min(layers, len(names)))
        with spoiling(chosen[0]):
            spoiled = run(parsed, Path(scratch) / "spoiled").report
        agreement = spoiled["agreement"][0]
        found = {chosen[0]: judged(spoiled["verdict"]["checks"], chosen[0], agreement["alone"])}
        reference = intact.path / "models" / "fp32.onnx"
        evaluation = open_samples(parsed.samples.evaluation or "", ModelFile(reference).spec)
        for node in chosen[1:]:
            path = Path(scratch) / f"{ROLE}.onnx"
            shutil.copy(good, path)
            double_scale(path, node)
            comparison = verify(
                reference, path, evaluation, metric="miou", layers=True, contract=parsed.contract
            ).to_json()
            checks, alone = comparison["verdict"]["checks"], comparison["alone"]
            found[node] = judged(checks, node, alone)
        whole = next(check for check in intact.report["verdict"]["checks"] if check["term"])
    return {
        "recipe": recipe,
        "quantized_layers": len(names),
        "intact": {k: whole[k] for k in ("value", "low", "high", "ok", "note")},
        "verdict_of_the_spoiled_recipe": spoiled["verdict"]["status"],
        "first_check_that_fails": next(
            str(check["name"]) for check in spoiled["verdict"]["checks"] if check["ok"] is False
        ),
        "doubled": found,
        "lost_a_point": sum(one["miou_loss_points"] >= 1 for one in found.values()),
        "failed": sum(one["holds"] is False for one in found.values()),
        "named_first": sum(one["named_first"] for one in found.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": environment(None),
        "seed": arguments.seed,
        **measure(arguments.layers, arguments.seed),
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
