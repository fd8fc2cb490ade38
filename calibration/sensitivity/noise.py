"""How much of a model's outputs each rounding spoils, measured one at a time.

With output y of the float model and y^ of the model in which one weight, or one group of tensors
with a common scale, is rounded and nothing else:

    share = mean over outputs and channels of  sum (y - y^)² / sum y²,  sums over samples

Roundings of different tensors are nearly independent, so their shares add up: the noise of any
mixture of INT8 and float is predicted by a sum, and measured again before it is believed. Channels
(axis 1 where there are three axes or more) count alike, or the coordinates of a detector would
hide its scores. Labels have no squares: the squared share of those that changed takes their place,
because a label changes with the amplitude of the noise, not with its power.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import multiply_adds
from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.samples.base import Array, Samples
from calibration.samples.mapping import map_samples
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.workbench import Atom, Workbench, serialized
from exporters.errors import UserError

if TYPE_CHECKING:
    from calibration.job import Progress

Floats = NDArray[np.float64]

WORK = 1e11
"""Multiply-adds that the samples of one variant may cost."""

FEWEST, MOST = 2, 4
"""Samples a variant is run on."""

BROKEN = 1e3
"""Share of an output that is not finite: worse than any noise."""

_QUIET = 1e-2  # a channel with less than this part of the mean energy counts as that loud


@dataclass(frozen=True)
class Workers:
    """Who runs the variants; see `calibration.samples.mapping.map_samples`."""

    backend: str = "serial"
    jobs: int | None = None
    scheduler: str | None = None


def measure_atoms(
    bench: Workbench,
    samples: Samples,
    notebook: Notebook,
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Noise share of every atom, by name.

    Raises:
        UserError: a sample does not fit the model.
    """
    missing = [atom for atom in bench.atoms if f"noise {atom.name}" not in notebook]
    if missing:
        variants = _Variants(bench, missing)
        done = len(bench.atoms) - len(missing)
        shares = _shares(bench, variants, samples, workers or Workers())
        for atom, share in zip(missing, shares, strict=True):
            notebook.note(f"noise {atom.name}", share)
            done += 1
            if progress:
                progress("layers", done, len(bench.atoms))
    return {atom.name: float(notebook.recall(f"noise {atom.name}", float)) for atom in bench.atoms}


def decibels(share: float) -> float:
    """A noise share as SQNR: 20 dB is one percent of the power."""
    return math.inf if share <= 0 else -10 * math.log10(share)


class _Variants:
    """Models as "samples", so that `map_samples` carries them to whoever runs them."""

    sha256 = ""

    def __init__(self, bench: Workbench, atoms: list[Atom]) -> None:
        self._bench = bench
        self._atoms = atoms

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(atom.name for atom in self._atoms)

    def __len__(self) -> int:
        return len(self._atoms)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for atom in self._atoms:
            data = serialized(self._bench.rounded([atom]))
            yield {"model": np.frombuffer(data, np.uint8)}


def _shares(
    bench: Workbench, variants: Samples, samples: Samples, workers: Workers
) -> Iterator[float]:
    feeds = list(_feeds(bench, samples))
    session = open_session(serialized(bench.model))
    outputs = [session.run(None, feed) for feed in feeds]
    names = [output.name for output in session.get_outputs()]
    fn = NoiseOf(feeds, outputs, names, 0 if workers.backend == "serial" else 1)
    return map_samples(
        fn, variants, workers.backend, jobs=workers.jobs, scheduler=workers.scheduler
    )


def _feeds(bench: Workbench, samples: Samples) -> Iterator[dict[str, Array]]:
    """Some samples, spread over the set."""
    work = sum(multiply_adds(item.node) for item in bench.placement.weighted)
    affordable = min(max(int(WORK / work), FEWEST), MOST) if work else MOST
    count = min(affordable, len(samples))
    if count == 0:
        raise UserError("there are no samples to measure on", fix="Name others with --samples")
    step = len(samples) // count
    expected = expected_inputs(bench.model.graph, bench.job.file.spec)
    for _, feed in islice(checked_feeds(samples, expected), 0, step * count, step):
        yield feed


@dataclass
class NoiseOf:
    """Runs a variant and compares; picklable.

    Attributes:
        outputs: of the float model, a list a feed.
        threads: of a session; 0 for all cores.
    """

    feeds: list[dict[str, Array]]
    outputs: list[list[Array]]
    names: list[str]
    threads: int = 0

    def __call__(self, variant: dict[str, Array]) -> float:
        session = open_session(variant["model"].tobytes(), self.threads, emulate=True)
        results = [session.run(self.names, feed) for feed in self.feeds]
        return noise_share(self.outputs, results)


def noise_share(reference: Sequence[list[Array]], candidate: Sequence[list[Array]]) -> float:
    """Of the float outputs; of the others only where there is no float output.

    Args:
        reference, candidate: a list of outputs a sample.
    """
    floats, labels = [], []
    for true, other in zip(zip(*reference, strict=True), zip(*candidate, strict=True), strict=True):
        if np.issubdtype(true[0].dtype, np.floating):
            floats.append(_float_share(true, other))
        else:
            changed = sum(int((r != c).sum()) for r, c in zip(true, other, strict=True))
            labels.append((changed / max(sum(r.size for r in true), 1)) ** 2)
    return float(np.mean(floats or labels))


def _float_share(reference: Sequence[Array], candidate: Sequence[Array]) -> float:
    """Of one output over the samples."""
    # an axis 1 of changing size counts time steps or objects, not channels
    channels = reference[0].ndim >= 3 and len({array.shape[1] for array in reference}) == 1

    def sums(array: Array) -> Floats:
        axes = tuple(a for a in range(array.ndim) if a != 1) if channels else None
        return np.atleast_1d(np.square(array, dtype=np.float64).sum(axis=axes))

    pairs = zip(reference, candidate, strict=True)
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.sum([sums(r.astype(np.float64) - c) for r, c in pairs], axis=0)
    energy = np.sum([sums(array) for array in reference], axis=0)
    if not np.isfinite(noise).all():
        return BROKEN
    floor = _QUIET * energy.mean()
    if floor == 0:
        return 0.0 if not noise.any() else BROKEN
    return float(np.mean(noise / np.maximum(energy, floor)))


def open_session(model: bytes, threads: int = 0, *, emulate: bool = False) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        emulate: compute Q/DQ as ONNX defines them, without integer kernels.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if emulate:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
