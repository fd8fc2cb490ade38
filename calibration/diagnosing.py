"""The calibration-set doctor at work: a pass over the samples before anything is run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.samples.base import Samples
from calibration.samples.checks import too_few
from calibration.samples.doctor import Diagnosis, Examination, diagnose, examine
from calibration.samples.findings import Finding
from calibration.samples.rolling import as_given
from calibration.samples.sequences import HISTORY_LENGTH
from exporters.modelfile import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

Progress = Callable[[str, int, int], None]


def diagnosed(
    samples: Samples,
    graph: ir.Graph,
    spec: ModelSpec | None,
    *,
    min_samples: int,
    i_know: Iterable[str] = (),
    evaluation: Samples | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """What the doctor says of a calibration set.

    Args:
        graph: of the model, whose inputs stand in for a self-description that is not there.
        i_know: codes of errors to pass over, ``all`` for all.
        evaluation: the set to compare it with.

    Raises:
        SamplesRefusedError: a sample does not fit the model, or there is an error that ``i_know``
            does not name.
    """
    known = tuple(i_know)
    Diagnosis(tuple(too_few(len(samples), min_samples))).requiring(known)

    def examined(some: Samples) -> Examination:
        expected = expected_inputs(graph, spec)

        def told(done: int) -> None:
            if progress:
                progress("examine", done, len(some))

        feeds = checked_feeds(as_given(some), expected)  # states are no one's mistake
        return examine(feeds, expected, described=spec is not None, progress=told)

    other = examined(evaluation) if evaluation is not None else None
    found = examined(samples)
    diagnosis = diagnose(found, min_samples, other).requiring(known)
    return diagnosis.plus(_without_past(found, spec))


def _without_past(found: Examination, spec: ModelSpec | None) -> Iterator[Finding]:
    """A note where a model could remember, and no sample has anything behind it."""
    length = (
        next((i.name for i in spec.inputs if i.semantics == HISTORY_LENGTH), "") if spec else ""
    )
    column = f"{length} mean"
    if column in found.summary_names:
        if found.summaries[:, found.summary_names.index(column)].any():
            return
        yield Finding(
            "no-past",
            "note",
            "every sample is the first of its sequence: what the model remembers has no part in "
            "its ranges",
            "Give sequences in order of time, as synthetic:2x20 does",
        )
