"""Run a model over samples and keep the range and the distribution of its activations.

Streaming: one sample at a time, one pass, and of every tensor only two numbers and a histogram of
fixed size remain, so that memory depends on the model and not on the number of samples.
``calibration.observing.taps`` says how the activations are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.diagnosing import diagnosed
from calibration.graph.prepare import prepare
from calibration.observing.discarded import observe_what_counts
from calibration.observing.feeds import MIN_SAMPLES, checked_feeds, expected_inputs
from calibration.observing.histogram import Histogram
from calibration.observing.sessions import open_session
from calibration.observing.statistics import Statistics, TensorStatistics
from calibration.observing.taps import MAXIMUM, MINIMUM, PART, SIZE, Tap, tap
from calibration.samples.base import Array, Samples
from calibration.samples.findings import check_overrides
from calibration.samples.rolling import rolled
from exporters.errors import MissingRequirementError, UserError
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]


def observe(
    model: ModelFile | Path | str,
    samples: Samples,
    tensors: Iterable[str] | None = None,
    *,
    histograms: bool = True,
    min_samples: int = MIN_SAMPLES,
    i_know: Iterable[str] = (),
    evaluation: Samples | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """One streaming pass over ``samples``.

    Args:
        tensors: names of float32 activations; by default all that any policy wants to quantize.
        histograms: False keeps exact ranges only, which is all that ``minmax`` needs.
        min_samples: fewer are refused.
        i_know: errors of the calibration-set doctor to pass over, as in `QuantizeOptions`.
        evaluation: what the result will be judged by; the doctor compares the two.

    Raises:
        SamplesRefusedError: a sample does not fit the model (wrong size or type, NaN, constant), or
            the calibration-set doctor refuses the set.
        UserError: a tensor is unknown, or an activation is not finite.
    """
    file = model if isinstance(model, ModelFile) else ModelFile(model)
    samples = rolled(samples, file)
    known = tuple(i_know)
    check_overrides(known)
    graph_model = prepare(file.proto, str(file.path), floors=True)
    diagnosis = diagnosed(
        samples,
        graph_model.graph,
        file.spec,
        min_samples=min_samples,
        i_know=known,
        evaluation=evaluation,
        progress=progress,
    )
    names = _default_tensors(graph_model) if tensors is None else list(tensors)
    seen = observe_graph(
        graph_model, file, samples, names, histograms=histograms, progress=progress
    )
    return replace(seen, diagnosis=diagnosis)


def observe_graph(
    model: ir.Model,
    file: ModelFile,
    samples: Samples,
    tensors: list[str],
    *,
    histograms: bool,
    progress: Progress | None,
) -> Statistics:
    """``observe`` for a prepared graph, which is consumed: it gets taps for outputs."""
    started = time.perf_counter()
    expected = expected_inputs(model.graph, file.spec)
    observe_what_counts(model.graph, tensors)
    observer: _Observer | None = None
    for index, (name, feeds) in enumerate(checked_feeds(samples, expected)):
        if observer is None:
            observer = _Observer(model, file.path, tensors, feeds, histograms=histograms)
            del model
        observer.add(name, feeds)
        if progress:
            progress("observe", index + 1, len(samples))
    if observer is None:
        raise UserError("the calibration set is empty", fix="Give at least one sample")
    return Statistics(
        model_sha256=file.sha256,
        samples_sha256=samples.sha256,
        sample_names=tuple(samples.names),
        tensors=observer.statistics,
        seconds=time.perf_counter() - started,
        forward_seconds=observer.forward_seconds,
    )


class _Observer:
    """A tapped session and the statistics it fills."""

    def __init__(
        self,
        model: ir.Model,
        path: Path,
        tensors: list[str],
        feeds: Mapping[str, Array],
        *,
        histograms: bool,
    ) -> None:
        self.statistics = {
            name: TensorStatistics(histogram=Histogram() if histograms else None)
            for name in tensors
        }
        self.forward_seconds = 0.0
        self._path = path
        self._producers = {v.name: node.name for node in model.graph for v in node.outputs}
        self._taps = tap(model, tensors, feeds, parts=histograms)
        self._session = _session(model, path)

    def add(self, sample: str, feeds: Mapping[str, Array]) -> None:
        started = time.perf_counter()
        try:
            results = self._session.run(list(self._taps), dict(feeds))
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            raise UserError(
                f"ONNX Runtime cannot run {self._path} on sample {sample!r}: "
                f"{str(error).splitlines()[0]}",
                fix="Check that this sample is what the model takes, and that the model runs",
            ) from error
        self.forward_seconds += time.perf_counter() - started
        for told, value in zip(self._taps.values(), results, strict=True):
            if not np.isfinite(value).all():
                raise UserError(
                    f"sample {sample!r}: activation {told.tensor!r} of node "
                    f"{self._producers.get(told.tensor)!r} is NaN or infinite",
                    fix="The model overflows in FP32 here: check weights and normalisation",
                )
        found = dict(zip(self._taps.values(), results, strict=True))
        for name, entry in self.statistics.items():
            entry.elements += int(found[Tap(name, SIZE)])
            entry.add_range(float(found[Tap(name, MINIMUM)]), float(found[Tap(name, MAXIMUM)]))
            if entry.histogram is not None:
                entry.histogram.add(found[Tap(name, PART)])


def _session(model: ir.Model, path: Path) -> Any:
    """Open the tapped ``model``; ``path`` is the file that an error names."""
    try:
        return open_session(model)
    except MissingRequirementError:  # no room for it: that says nothing about the model
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise UserError(
            f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}",
            fix=f"Export it with standard operators, or look at it with: edgeport inspect {path}",
        ) from error


def _default_tensors(model: ir.Model) -> list[str]:
    from calibration.qdq.policies import all_tensors

    return all_tensors(model.graph)
