"""The float network and the quantized one side by side: by how much outputs are shifted.

What `calibration.rounding.bias` measures before it corrects, while it corrects and afterwards. Some
samples teach, others, held back, judge; memory holds one number a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.observing.probe import Probe
from calibration.rounding.shares import decibels, learn_and_judge
from calibration.rounding.sites import Site
from calibration.rounding.twin import WeightGrids, join, quantized_copy
from calibration.samples.base import Array, Samples
from calibration.scales.methods import Scale
from calibration.scales.trial import FloatRun, Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

MOST_SAMPLES = 32
"""A mean over samples and positions needs no more; every one of them is run six times."""

_REDUCE_AXES_INPUT = 18  # since then ReduceMean takes its axes as an input


@dataclass(frozen=True)
class CorrectedLayer:
    """What correction does to one layer, on samples that it was not measured on.

    Attributes:
        sqnr_before_db, sqnr_after_db: of the layer's output behind its activation, where all
            layers before it are corrected.
        kept: whether the correction stays.
    """

    node: str
    sqnr_before_db: float
    sqnr_after_db: float
    kept: bool


class Shift:
    """How far a layer's output is off, a number a channel, over samples."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum = np.zeros(channels)
        self._squares = np.zeros(channels)

    def add(self, shift: NDArray[np.float32]) -> None:
        """One sample's; any shape with one number a channel."""
        values = shift.reshape(-1).astype(np.float64)
        self._count += 1
        self._sum += values
        self._squares += values * values

    def trusted(self) -> NDArray[np.float32]:
        """The mean, shrunk by what few samples cannot know of it: m (1 - se²/m²), 0 at least.

        (The positive-part estimator of James and Stein, a channel at a time.)
        """
        mean = self._sum / self._count
        if self._count < 2:
            return np.asarray(mean, np.float32)
        variance = np.maximum(self._squares - self._count * mean**2, 0) / (self._count - 1)
        unsure = variance / self._count / np.maximum(mean**2, np.finfo(np.float64).tiny)
        return np.asarray(mean * np.maximum(1 - unsure, 0), np.float32)


class Bench:
    """The float network as it was, to compare the quantized one with as it is."""

    def __init__(
        self,
        job: Job,
        model: ir.Model,
        scales: Mapping[ir.Value, Scale],
        grids: WeightGrids,
        max_samples: int | None,
    ) -> None:
        assert job.samples is not None  # checked by the caller
        self._job, self._model, self._scales, self._grids = job, model, scales, grids
        self._named = {value.name or "": scale for value, scale in scales.items()}
        self._real = model.clone()
        count = max_samples or min(Probe(self._real).affordable, MOST_SAMPLES)
        self._learn, self._judge = learn_and_judge(job.samples, count)
        self._run = FloatRun(job, self._real, self._judge)

    def shifts(self, sites: list[Site]) -> list[NDArray[np.float32]]:
        """Of every site, behind sites whose own shift is taken off."""
        probe, outputs = self._both()
        for shift in reversed(_taken_off(probe, outputs, sites)):
            probe.output(shift)
        return self._trusted(probe, sites)

    def _trusted(self, probe: Probe, sites: list[Site]) -> list[NDArray[np.float32]]:
        """Args: a probe that hands out one shift a site, the last site's first."""
        seen = [Shift(site.channels) for site in sites]
        for row in self._arrays(probe, self._learn, "bias"):
            for shift_seen, array in zip(seen, reversed(row), strict=True):
                shift_seen.add(array)
        return [shift.trusted() for shift in seen]

    def shifts_as_it_is(self, sites: list[Site]) -> list[NDArray[np.float32]]:
        """Of sites that do not see each other, behind whatever the network is now."""
        probe, outputs = self._both()
        for site in reversed(sites):
            real, blurred = probe.values[site.output.name], outputs[site.output.name or ""]
            error = probe.node("Sub", [blurred, real], f"{site.name}/error")[0]
            probe.output(_mean(probe, site, error))
        return self._trusted(probe, sites)

    def judged(self, sites: list[Site], shifts: list[NDArray[np.float32]]) -> list[CorrectedLayer]:
        """Every site with its correction and without, where all others are corrected."""
        probe, outputs = self._both()
        for site, shift in reversed(list(zip(sites, shifts, strict=True))):
            _compare(probe, outputs, site, shift)
        rows = np.array(list(self._arrays(probe, self._judge, "bias, judged")), np.float64)
        errors = rows.sum(axis=0).reshape(-1, 3)[::-1]
        return [_layer(site, *row) for site, row in zip(sites, errors, strict=True)]

    def fidelities_db(self) -> NDArray[np.float64]:
        """Of the outputs as the network is now: one number a sample held back.

        0 where no output comes from numbers of both networks.
        """
        if not len(self._run):
            return np.zeros(len(self._judge))
        trial = Trial(self._job, self._model, self._grids, self._run)
        return trial.fidelities_db(self._scales)

    def _both(self) -> tuple[Probe, dict[str, ir.Value]]:
        probe = Probe(self._real)
        quantized = quantized_copy(self._job, self._model, self._named, self._grids)
        return probe, join(probe, quantized)

    def _arrays(self, probe: Probe, samples: Samples, what: str) -> Iterator[list[Array]]:
        job = self._job
        return probe.arrays(
            samples, job.file.spec, what=what, max_samples=len(samples), progress=job.progress
        )


def _taken_off(probe: Probe, outputs: Mapping[str, ir.Value], sites: list[Site]) -> list[ir.Value]:
    """Take each sample's own shift off every quantized output; returns the shifts."""
    shifts = []
    for site in sites:
        real, blurred = probe.values[site.output.name], outputs[site.output.name or ""]
        uses = list(blurred.uses())
        shift = _mean(probe, site, probe.node("Sub", [blurred, real], f"{site.name}/error")[0])
        (level,) = probe.node("Sub", [blurred, shift], f"{site.name}/level")
        for node, slot in uses:
            node.replace_input_with(slot, level)
        shifts.append(shift)
    return shifts


def _mean(probe: Probe, site: Site, value: ir.Value) -> ir.Value:
    """Of every channel, in a shape that can be subtracted from ``value``."""
    name = f"{site.name}/shift"
    axes = [0]
    if site.channel_axis == -1:
        flat = probe.constant(np.array([-1, site.channels], np.int64), f"{name}/flat")
        (value,) = probe.node("Reshape", [value, flat], f"{name}/rows")
    else:
        axes += range(2, site.rank)
    if probe.graph.opset_imports.get("", 0) < _REDUCE_AXES_INPUT:
        return probe.node("ReduceMean", [value], name, {"axes": axes, "keepdims": 1})[0]
    inputs = [value, probe.constant(np.array(axes, np.int64), f"{name}/axes")]
    return probe.node("ReduceMean", inputs, name, {"keepdims": 1})[0]


def _compare(
    probe: Probe,
    outputs: Mapping[str, ir.Value],
    site: Site,
    mean: NDArray[np.float32],
) -> None:
    """Three numbers: energy of the layer's output, error with the correction and without."""
    blurred = outputs[site.output.name or ""]
    if site.channel_axis == 1:
        mean = mean.reshape(1, -1, *[1] * (site.rank - 2))
    shift = probe.constant(mean, f"{site.name}/mean")
    (without,) = probe.node("Add", [blurred, shift], f"{site.name}/uncorrected")
    real = probe.values[site.activation.result.name]
    made = [site.activation.copied(probe, value) for value in (blurred, without)]
    probe.sum_of_squares(real)
    for value in made:
        probe.sum_of_squares(real, value)


def _layer(site: Site, energy: float, after: float, before: float) -> CorrectedLayer:
    return CorrectedLayer(
        site.name, decibels(energy, before), decibels(energy, after), bool(after < before)
    )
