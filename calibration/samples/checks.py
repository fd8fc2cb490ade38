"""What a sample must be before a scale or a metric may come from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

import numpy as np

from calibration.samples.base import LABEL_PREFIX, Array, Sample, Samples, inputs_of
from calibration.samples.findings import Finding, SamplesRefusedError
from exporters.errors import did_you_mean
from exporters.modelfile import ANY_SHAPE, InputSpec, ModelSpec

USUAL = 16
"""Fewer samples are noted."""

_MOST_AXES = 5

_EVERY = 16
"""Rows and columns from one looked at to the next."""


def checked(sample: Sample, name: str, spec: ModelSpec | None) -> dict[str, Array]:
    """``sample`` with everything as ``spec`` says, or an error that names what is not.

    Args:
        name: of the sample, for messages.
        spec: None for an ONNX from elsewhere: then only values are looked at.

    Raises:
        SamplesRefusedError: an input is missing, unknown, of another shape or dtype, not finite, or
            constant. States may be missing, all of them together.
    """
    inputs = inputs_of(sample)
    if spec is not None:
        _require_names(inputs, name, spec)
        for item in spec.inputs:
            if item.name in inputs:
                _require_form(inputs[item.name], item, name)
    for key, value in sample.items():
        _require_finite(value, f"sample {name}: {key}")
    if spec is None:
        _require_content(inputs, name)
    else:
        for item in spec.inputs:
            if item.semantics == "camera-images":
                _require_pictures(inputs[item.name], item, name)
    return dict(sample)


def require_samples(samples: Samples, minimum: int) -> None:
    """Fail before the work starts when there are too few samples.

    Raises:
        SamplesRefusedError: fewer than ``minimum``.
    """
    findings = [f for f in too_few(len(samples), minimum) if f.severity == "error"]
    if findings:
        raise SamplesRefusedError(findings)


def too_few(count: int, minimum: int) -> Iterator[Finding]:
    """What can be said of a set by its size alone."""
    more = "Make more with: edgeport samples SOURCE --model model.onnx -o DIR --count N"
    numbers = {"samples": float(count), "minimum": float(minimum)}
    if count < minimum:
        these = "1 sample is" if count == 1 else f"{count} samples are"
        message = f"{these} too few, at least {minimum} are needed"
        yield Finding("too-few", "error", message, more, numbers=numbers)
    elif count < USUAL:
        message = f"{count} samples are few, {USUAL} to 500 are usual"
        yield Finding("few", "note", message, more, numbers=numbers)


def _require_names(inputs: Mapping[str, Array], name: str, spec: ModelSpec) -> None:
    wanted = [item.name for item in spec.inputs]
    states = {state.input for state in spec.states}
    given = states & set(inputs)
    for key in wanted:
        if key in states and not given:
            continue  # what earlier samples leave behind: calibration.samples.rolling fills it in
        if key not in inputs:
            raise _refused(
                "form",
                f"sample {name} has no input {key!r}; it has {sorted(inputs)}",
                f"Make samples for this model with: edgeport samples SOURCE --model MODEL "
                f"-o DIR, or numpy.savez(FILE, {', '.join(f'{k}=…' for k in wanted)}) "
                f"({spec.variant} takes {wanted})",
            )
    for key in inputs:
        if key not in wanted:
            raise _refused(
                "form",
                f"sample {name} has an input {key!r} that {spec.variant} does not take",
                f"{did_you_mean(key, wanted)} Ground truth goes under {LABEL_PREFIX}NAME",
            )


def _require_form(value: Array, item: InputSpec, name: str) -> None:
    fits = _fits(value.shape, item.shape)
    if not fits or value.dtype.name != item.dtype:
        made = "Make samples for this model with: edgeport samples SOURCE --model MODEL -o DIR"
        cast = f"If these are its units, save it with .astype({item.dtype!r}). " if fits else ""
        raise _refused(
            "form",
            f"sample {name}: {item.name} is {value.dtype.name} {list(value.shape)}, "
            f"the model takes {item.dtype} {list(item.shape)}",
            (cast or _transposition(value, item)) + made,
        )


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    if wanted == ANY_SHAPE:
        return True
    return len(shape) == len(wanted) and all(
        isinstance(size, str) or size == found for size, found in zip(wanted, shape, strict=True)
    )


def _transposition(value: Array, item: InputSpec) -> str:
    """The order of axes that would fit, if there is just one."""
    if value.ndim != len(item.shape) or value.ndim > _MOST_AXES:
        return ""
    fitting = [
        axes
        for axes in permutations(range(value.ndim))
        if _fits(tuple(value.shape[axis] for axis in axes), item.shape)
    ]
    return f"Transposed by {fitting[0]} it would fit. " if len(fitting) == 1 else ""


def _require_finite(value: Array, where: str) -> None:
    if not np.issubdtype(value.dtype, np.floating):
        return
    bad = int(value.size - np.count_nonzero(np.isfinite(value)))
    if bad:
        raise _refused(
            "not-finite",
            f"{where} holds {bad} NaN or infinite values of {value.size}",
            "Leave this sample out, or repair what made it",
        )


def _require_pictures(value: Array, item: InputSpec, name: str) -> None:
    cameras = item.details.get("cameras", range(len(value)))
    for camera, image in zip(cameras, value, strict=True):
        if _has_one_colour(image):
            raise _refused(
                "constant",
                f"sample {name}: the image of camera {camera} has one colour everywhere",
                "A black or covered camera calibrates nothing: leave this sample out",
            )


def _has_one_colour(image: Array) -> bool:
    """Of 3 channels, first or last. A few pixels say no of nearly every picture."""
    rows, columns = (0, 1) if image.shape[-1] == 3 else (1, 2)
    every = slice(None, None, _EVERY)
    few = image[every, every] if rows == 0 else image[:, every, every]
    return all((np.ptp(part, axis=(rows, columns)) == 0).all() for part in (few, image))


def _require_content(inputs: Mapping[str, Array], name: str) -> None:
    if not inputs:
        raise _refused("form", f"sample {name} has no inputs", "Only labels were found in it")
    for key, value in inputs.items():
        if not (np.issubdtype(value.dtype, np.number) or value.dtype == np.bool_):
            raise _refused(
                "form",
                f"sample {name}: {key} is {value.dtype.name}, which is no number",
                f"Text goes under {LABEL_PREFIX}NAME, or into a file of its own",
            )
    if all(value.min() == value.max() for value in inputs.values() if value.size > 1):
        sized = [key for key, value in inputs.items() if value.size > 1]
        if sized:
            raise _refused(
                "constant",
                f"sample {name}: {', '.join(sized)} hold one constant value each",
                "A constant input calibrates nothing: leave this sample out",
            )


def _refused(code: str, message: str, fix: str) -> SamplesRefusedError:
    return SamplesRefusedError([Finding(code, "error", message, fix)])
