"""One layer's scale doubled: does the recipe fail, and is that layer named first?

    python -m benchmarks.provoked_loss                          # about 40 minutes of one core
    python -m benchmarks.provoked_loss --intact demo-bundle     # quantized there already

The demo's quantization of the trained ``flashocc-mini``, in the file for ONNX Runtime, with the
demo's bound on mIoU. The intact file has to pass. Then the scale of one layer's weights is doubled
in it: that layer's output doubles, the file stays valid, and nothing but a comparison can tell.

1. Every layer is doubled in turn and its loss measured on the first frames: not every layer is
   worth a point.
2. Of those that lose a point more than the intact file, the ones nearest to it, which are the
   hardest to tell from rounding, and some drawn by a seed go through ``verify`` with the contract,
   on all frames: as many as tell apart what the contract allows and a point more.
3. The one that is nearest to a point goes through the whole recipe, into a bundle.

Predicted before the first run: each of them fails with its own name first. Results go to
``benchmarks/results/provoked_loss.json``, after every layer; a run that was stopped goes on there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import calibration
from calibration.graph.queries import WEIGHTED
from calibration.samples import InMemorySamples, open_samples
from calibration.samples.base import Samples
from deploy import Recipe, run, verify
from deploy.scoring import ValidationScore
from exporters.files import write_bytes, write_text
from exporters.modelfile import ModelFile
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "provoked_loss.json"
ROLE = "int8-onnxruntime"
POINT = 1.0  # of mIoU, in percent
FIRST = 24  # frames that every layer is tried on
RECIPE: dict[str, Any] = {
    "model": {"variant": "flashocc-mini"},
    "samples": {"calibration": "synthetic:16:1", "evaluation": "synthetic:96:1000"},
    "quantization": {"scales": "auto", "policies": ["onnxruntime"]},
    "benchmark": None,
    "verify": {"metric": "miou", "scenes": 0, "waterfall": 0},
    "contract": {"require": ["miou>=fp32-1.5"]},
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


def spoiled_file(good: Path, node: str, folder: Path) -> Path:
    """A copy of ``good`` in ``folder``, with one scale doubled."""
    folder.mkdir(exist_ok=True)
    path = folder / good.name
    shutil.copy(good, path)
    double_scale(path, node)
    return path


def judged(verdict: Mapping[str, Any], node: str) -> dict[str, Any]:
    """The verdict's term on mIoU, and whether ``node`` is the first that it names."""
    check = next(check for check in verdict["checks"] if check["term"])
    named = check["note"].partition("by itself loses most: ")[2]
    return {
        "verdict": verdict["status"],
        "miou_loss_points": check["value"],
        "interval": [check["low"], check["high"]],
        "note": check["note"],
        "named_first": bool(named) and named.partition(" (")[0] == node,
    }


def losses(
    good: Path, reference: Path, evaluation: Samples, nodes: Iterable[str], folder: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Points of mIoU that each layer costs when doubled, in place of what the intact file costs."""
    with ValidationScore(ModelFile(reference), evaluation, "miou") as score:
        for node in nodes:
            path = good if node == "" else spoiled_file(good, node, folder)
            found = score(path)["miou"]
            yield node, {"miou": found.value, "miou_loss_points": found.fp32 - found.value}


def to_be_named(
    doubled: Mapping[str, Mapping[str, float]], intact: float, nearest: int, drawn: int, seed: int
) -> list[str]:
    """Layers that lose a point more than ``intact``: the nearest to it first, then some drawn."""
    extra = {node: one["miou_loss_points"] - intact for node, one in doubled.items()}
    worth = sorted((node for node in extra if extra[node] >= POINT), key=lambda node: extra[node])
    others = worth[nearest:]
    return worth[:nearest] + random.Random(seed).sample(others, min(drawn, len(others)))


class Progress:
    """The results as they grow, on disk after every step."""

    def __init__(self, path: Path, fresh: Mapping[str, Any]) -> None:
        self.path = path
        self.found: dict[str, Any] = dict(fresh)
        if path.is_file():
            known = json.loads(path.read_text())
            if all(known.get(key) == fresh[key] for key in ("recipe", "seed")):
                self.found = known

    def part(self, name: str) -> dict[str, Any]:
        part: dict[str, Any] = self.found.setdefault(name, {})
        return part

    def save(self) -> None:
        self.found["load"] = [round(one, 1) for one in os.getloadavg()]
        write_text(self.path, json.dumps(self.found, indent=2) + "\n", overwrite=True)


def measure(
    work: Path, intact: Path, results: Progress, nearest: int, drawn: int, first: int | None
) -> None:
    """Everything that ``results`` has not yet.

    Args:
        first: double so many layers, in graph order; None for all.
        work: a folder for spoiled files and bundles.
        intact: a bundle with the recipe's files.
    """
    recipe = Recipe.model_validate(results.found["recipe"])
    seed = results.found["seed"]
    reference, good = (intact / "models" / f"{role}.onnx" for role in ("fp32", ROLE))
    spec = ModelFile(reference).require_spec()
    frames = open_samples(recipe.samples.evaluation or "", spec)
    evaluation = InMemorySamples(frames, frames.names)  # drawn once, not for every layer
    first_frames = InMemorySamples(islice(evaluation, FIRST), evaluation.names[:FIRST])

    def compared(path: Path, node: str) -> dict[str, Any]:
        found = verify(
            reference, path, evaluation, metric="miou", layers=True, contract=recipe.contract
        )
        return judged(found.verdict.to_json(), node)

    if "intact" not in results.found:
        results.found["intact"] = {"sha256": ModelFile(good).sha256, **compared(good, "")}
        results.save()
    doubled, named = results.part("doubled"), results.part("named")
    layers = list(quantized_layers(good))
    results.found["quantized_layers"] = len(layers)
    waiting = [node for node in ("", *layers[:first]) if node not in doubled]
    for node, loss in losses(good, reference, first_frames, waiting, work / "spoiled"):
        doubled[node] = loss
        results.save()
    doubled = dict(doubled)
    own = doubled.pop("")["miou_loss_points"]
    chosen = to_be_named(doubled, own, nearest, drawn, seed)
    for node in chosen:
        if node in named:
            continue
        named[node] = compared(spoiled_file(good, node, work / "spoiled"), node)
        results.save()
    results.found["summary"] = summary(doubled, named, own)
    results.save()
    if "bundle" not in results.found:
        with spoiling(chosen[0]):
            spoiled = run(recipe, work / "bundle", overwrite=True, fresh=True)
        results.found["bundle"] = {"doubled": chosen[0]}
        results.found["bundle"] |= judged(spoiled.report["verdict"], chosen[0])
        results.save()


def summary(
    doubled: Mapping[str, Mapping[str, float]], named: Mapping[str, Any], own: float
) -> dict[str, Any]:
    extra = [one["miou_loss_points"] - own for one in doubled.values()]
    return {
        "layers": len(extra),
        "lose_a_point_more": sum(one >= POINT for one in extra),
        "least_and_most_points": [min(extra), max(extra)],
        "judged": len(named),
        "fail": sum(one["verdict"] == "fail" for one in named.values()),
        "named_first": sum(one["named_first"] for one in named.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--nearest", type=int, default=8, help="layers nearest to a point")
    parser.add_argument("--drawn", type=int, default=4, help="layers drawn from the others")
    parser.add_argument("--first", type=int, help="double only so many layers, in graph order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("provoked-loss"), help="kept")
    parser.add_argument("--intact", type=Path, help="a bundle with this quantization")
    arguments = parser.parse_args()
    fresh = {
        "date": datetime.date.today().isoformat(),
        "machine": environment(None),
        "seed": arguments.seed,
        "recipe": RECIPE,
    }
    results = Progress(RESULTS, fresh)
    arguments.work.mkdir(exist_ok=True)
    intact = arguments.intact
    if intact is None:
        intact = arguments.work / "intact"
        run(Recipe.model_validate(RECIPE), intact, overwrite=True)
    counts = arguments.nearest, arguments.drawn, arguments.first
    measure(arguments.work, intact, results, *counts)
    print(json.dumps(results.found["summary"], indent=2))


if __name__ == "__main__":
    main()
