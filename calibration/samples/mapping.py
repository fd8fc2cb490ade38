"""One function over every sample: here, or on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from calibration.samples.base import Array, Samples
from exporters.errors import MissingRequirementError, UserError, did_you_mean

Result = TypeVar("Result")

BACKENDS = ("serial", "joblib")


def map_samples(
    fn: Callable[[dict[str, Array]], Result], samples: Samples, backend: str = "serial"
) -> Iterator[Result]:
    """``fn`` of every sample, in order, as they become ready.

    Args:
        fn: picklable for ``joblib``, which runs it in other processes.
        samples: read here, one at a time; ``joblib`` holds a few per worker.
        backend: ``serial`` or ``joblib``.

    Raises:
        UserError: unknown backend.
        MissingRequirementError: joblib is not installed.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}", fix=did_you_mean(backend, BACKENDS))
    if backend == "serial":
        return map(fn, samples)
    try:
        import joblib
    except ImportError as error:
        raise MissingRequirementError(
            "joblib is not installed", fix="pip install 'edgeport[cluster]'"
        ) from error
    parallel = joblib.Parallel(n_jobs=-1, return_as="generator")
    results: Iterator[Result] = parallel(joblib.delayed(fn)(sample) for sample in samples)
    return results
