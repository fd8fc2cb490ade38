"""How much of a model's outputs each rounding spoils, measured one at a time.

With y of the float model and y^ of the model in which one weight, or one group of tensors with a
common scale, is rounded and nothing else, and y what decides the outputs
(`calibration.graph.telling`):

    share = mean over outputs and channels of  sum (y - y^)² / sum y²,  sums over samples

Roundings of different tensors are nearly independent, so their shares add up: the noise of any
mixture of INT8 and float is predicted by a sum, and measured again before it is believed. Channels
(axis 1 where there are three axes or more) count alike, or the coordinates of a detector would
hide its scores. Where probabilities decide, the square of what is missing of their overlap
(`calibration.scales.fidelity`) takes the share's place: it changes with the amplitude of the noise,
not with its power. Lists of boxes are judged by the heads that they are picked from, where they are
likely to be picked: by their own numbers, two boxes in the other order weigh more than any noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import as_read, multiply_adds, values_by_name
from calibration.graph.telling import Judged, Telling, telling_values
from calibration.samples.base import Array, Samples
from calibration.samples.mapping import map_samples
from calibration.samples.subset import spread
from calibration.scales.fidelity import Real, append_sums, overlap
from calibration.scales.trial import FloatRun
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.workbench import Atom, Workbench, serialized
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

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
        self.told = telling_values(bench.model.graph)
        if not self.told:
            raise UserError(
                f"no output of {bench.job.file.path} comes from numbers that INT8 changes",
                fix="See what it consists of: edgeport inspect",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(atom.name for atom in self._atoms)

    def __len__(self) -> int:
        return len(self._atoms)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for atom in self._atoms:
            data = serialized(summing(self._bench.rounded([atom]), self.told))
            yield {"model": np.frombuffer(data, np.uint8)}


def _shares(
    bench: Workbench, variants: _Variants, samples: Samples, workers: Workers
) -> Iterator[float]:
    run = _float_run(bench, samples)
    threads = 0 if workers.backend == "serial" else 1
    fn = NoiseOf(run.feeds, run.real, run.told, threads)
    return map_samples(
        fn, variants, workers.backend, jobs=workers.jobs, scheduler=workers.scheduler
    )


def _float_run(bench: Workbench, samples: Samples) -> FloatRun:
    """On some samples, spread over the set."""
    work = sum(multiply_adds(item.node) for item in bench.placement.weighted)
    affordable = min(max(int(WORK / work), FEWEST), MOST) if work else MOST
    chosen = spread(samples, affordable)
    if not len(chosen):
        raise UserError("there are no samples to measure on", fix="Name others with --samples")
    return FloatRun(bench.job, bench.model, chosen)


def summing(model: ir.Model, told: Sequence[Telling]) -> ir.Model:
    """``model``, changed: its outputs are the sums by which it is judged, and nothing else."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    values = values_by_name(model.graph)
    model.graph.outputs.clear()
    for one in told:
        append_sums(model.graph, as_read(values[one.name]), one)
    RemoveUnusedNodesPass()(model)
    return model


@dataclass
class NoiseOf:
    """Runs a variant and compares; picklable.

    Attributes:
        feeds: inputs of the model.
        real: what the float model makes of each.
        told: what is judged.
        threads: of a session; 0 for all cores.
    """

    feeds: list[dict[str, Array]]
    real: list[Real]
    told: list[Telling]
    threads: int = 0

    def __call__(self, variant: dict[str, Array]) -> float:
        session = open_session(variant["model"].tobytes(), self.threads, emulate=True)
        rows = []
        for feed, real in zip(self.feeds, self.real, strict=True):
            seen = iter(session.run(None, {**feed, **real.given}))
            pairs = zip(self.told, real.own, strict=True)
            rows.append([sums_of(one, own, seen) for one, own in pairs])
        return noise_share(self.told, rows)


Sums = tuple[Floats, ...]
"""Of one sample: of the float network, and those that the other one made."""


def sums_of(told: Telling, own: Floats, seen: Iterator[Array]) -> Sums:
    """Args: what is judged, its `fidelity.Real.own`, outputs of a `summing` model that are left."""
    count = 1 if told.judged is Judged.ENERGY else 2
    made = [np.atleast_1d(np.asarray(next(seen), np.float64)) for _ in range(count)]
    return (own, *made)


def noise_share(told: Sequence[Telling], rows: Sequence[Sequence[Sums]]) -> float:
    """The mean over what is judged.

    Args:
        rows: of every sample, sums of each that is judged.
    """
    shares = []
    for one, of_samples in zip(told, zip(*rows, strict=True), strict=True):
        sums = [np.sum(parts, axis=0) for parts in zip(*of_samples, strict=True)]
        if not all(np.isfinite(part).all() for part in sums):
            shares.append(BROKEN)
        elif one.judged is Judged.ENERGY:
            shares.append(_energy_share(*sums))
        else:
            shares.append((1.0 - overlap(*sums)) ** 2)
    return float(np.mean(shares))


def _energy_share(energy: Floats, noise: Floats) -> float:
    """Args: by channel."""
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
