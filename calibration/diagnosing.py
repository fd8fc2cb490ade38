"""The calibration-set doctor at work: a pass over the samples before anything is run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.samples.base import Samples
from calibration.samples.checks import too_few
from calibration.samples.doctor import Diagnosis, Examination, diagnose, examine
from calibration.samples.rolling import as_given
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
    return diagnose(examined(samples), min_samples, other).requiring(known)
