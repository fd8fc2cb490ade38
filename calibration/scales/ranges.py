"""From a placement to one scale for every tensor: observe, then choose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.graph.queries import derived_from_inputs_only
from calibration.job import Job
from calibration.observing.observers import observe_graph
from calibration.observing.statistics import Statistics
from calibration.qdq.placement import Placement
from calibration.qdq.policies import all_tensors
from calibration.rounding.twin import WeightGrids
from calibration.scales.auto import Choice, choose_by_output
from calibration.scales.decided import Decided
from calibration.scales.methods import SCALES, Scale, ScaleMethod
from calibration.scales.rivals import ENERGY, POSITION, RIVALS, Rivalry, compete
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir


def statistics_of(
    job: Job,
    model: ir.Model,
    placement: Placement,
    *,
    split: bool,
    also: Iterable[str] = (),
) -> Statistics:
    """Those of an earlier pass where they fit, else from a pass over the samples.

    Args:
        split: whether ``model`` was changed since it was read: then an earlier pass does not fit.
        also: names of further tensors to observe in a new pass, those that ``model`` has.

    Raises:
        UserError: there is neither.
    """
    if job.statistics is not None and not split:
        return job.statistics
    if job.samples is None:
        raise UserError(
            f"--split {job.options.split} makes tensors that these statistics have not seen",
            fix="Give the samples themselves, or choose --split none",
        )
    return observe_graph(
        model.clone(),
        job.file,
        job.samples,
        _tensors_to_observe(model.graph, placement, also),
        histograms=SCALES.get(job.options.scales).needs_histogram,
        progress=job.progress,
    )


@dataclass(frozen=True)
class ChosenScales:
    """One scale for every tensor that is rounded.

    Attributes:
        methods: whose range it is, by tensor name, where ``auto`` had a choice.
        rivalry: of the assignments that ``auto`` tried; None where there was one.
    """

    scales: dict[ir.Value, Scale]
    methods: dict[str, str]
    rivalry: Rivalry | None = None


UNDECIDED = "mse"
"""Ranges of activations where ``auto`` chooses later, or has chosen without them."""


def first_method(job: Job) -> str:
    """The method that needs no run of the model."""
    return UNDECIDED if job.options.scales == "auto" else job.options.scales


def choose_scales(
    job: Job,
    model: ir.Model,
    placement: Placement,
    statistics: Statistics,
    grids: WeightGrids | None = None,
) -> ChosenScales:
    """One scale for every group of tensors; those that the job has decided stay.

    A method on its own never clips the graph's inputs: large values of an input are signal, not
    outliers, a bright pixel, a far point. Only ``auto`` may, which measures what that does.

    Args:
        grids: what weights become, to try whole assignments; None leaves that out.
    """
    if job.decided is not None:
        return _as_decided(job, model, placement, statistics, job.decided)
    if job.options.scales != "auto" or job.samples is None:
        name = job.options.scales
        return ChosenScales(scales_by_method(job, model, placement, statistics, name), {})
    found = choose_by_output(
        model,
        placement.groups(),
        placement,
        statistics,
        job.samples,
        policy=job.policy,
        spec=job.file.spec,
        half=job.half,
        progress=job.progress,
    )
    if grids is None:
        return _chosen_scales(placement, found.energy, None)
    contestants = {ENERGY: found.energy, POSITION: found.position}
    for name, method in RIVALS.items():
        contestants[name] = _by_one_method(job, model, placement, statistics, name, method)

    def assign(choices: list[Choice]) -> dict[ir.Value, Scale]:
        return _assigned(placement, choices)

    rivalry = compete(job, model, contestants, assign, grids)
    return _chosen_scales(placement, rivalry.choices, rivalry)


def _as_decided(
    job: Job, model: ir.Model, placement: Placement, statistics: Statistics, decided: Decided
) -> ChosenScales:
    """Known ranges; a tensor that got its pair from a node left in float has `first_method`'s."""
    known = decided.scales
    scales = {v: known[v.name or ""] for v in placement.tensors if v.name in known}
    if len(scales) < len(placement.tensors):
        scales = scales_by_method(job, model, placement, statistics, first_method(job)) | scales
    names = {value.name for value in placement.tensors}
    return ChosenScales(scales, {n: m for n, m in decided.methods.items() if n in names})


def scales_by_method(
    job: Job, model: ir.Model, placement: Placement, statistics: Statistics, name: str
) -> dict[ir.Value, Scale]:
    """One method for every tensor; inputs are not clipped."""
    choices = _by_one_method(job, model, placement, statistics, name, SCALES.get(name))
    return _assigned(placement, choices)


def _chosen_scales(
    placement: Placement, choices: list[Choice], rivalry: Rivalry | None
) -> ChosenScales:
    methods = {
        value.name or "": choice.method
        for group, choice in zip(placement.groups(), choices, strict=True)
        for value in group
    }
    return ChosenScales(_assigned(placement, choices), methods, rivalry)


def _by_one_method(
    job: Job,
    model: ir.Model,
    placement: Placement,
    statistics: Statistics,
    name: str,
    method: ScaleMethod,
) -> list[Choice]:
    inputs = derived_from_inputs_only(model.graph)
    choices = []
    for group in placement.groups():
        full = bool(inputs.intersection(group))
        seen = statistics.of(value.name or "" for value in group)
        chosen = SCALES.get("minmax") if full else method
        bounds = chosen.range_of(seen, job.policy.form)
        scale = Scale.of(bounds, job.policy.form, half=job.half)
        choices.append(Choice("minmax" if full else name, scale, {}))
    return choices


def _assigned(placement: Placement, choices: list[Choice]) -> dict[ir.Value, Scale]:
    scales: dict[ir.Value, Scale] = {}
    for group, choice in zip(placement.groups(), choices, strict=True):
        scales.update(dict.fromkeys(group, choice.scale))
    _follow(placement, scales)
    return scales


def _follow(placement: Placement, scales: dict[ir.Value, Scale]) -> None:
    """Give the sources of rereadings the scales that their results ask for, the last one first.

    A source that shares its scale with others keeps it, and its rereading is not carried out.
    """
    alone = {group[0] for group in placement.groups() if len(group) == 1}
    for value in reversed(list(placement.rereadings)):
        reading = placement.rereadings[value]
        scale = reading.scale_of_source(scales[value])
        if scale is not None and reading.source in alone:
            scales[reading.source] = scale


def _tensors_to_observe(graph: ir.Graph, placement: Placement, also: Iterable[str]) -> list[str]:
    """What every policy wants, so that the result does not depend on whether a pass is shared.

    Observing a tensor keeps ONNX Runtime from fusing across it, which moves its neighbours' values
    by a rounding.
    """
    names = dict.fromkeys(all_tensors(graph))
    names.update(dict.fromkeys(value.name or "" for value in placement.tensors))
    there = {value.name for node in graph for value in node.outputs}
    names.update(dict.fromkeys(name for name in also if name in there))
    return list(names)
