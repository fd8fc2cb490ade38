"""What a sample must be before a scale or a metric may come from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calibration.samples.base import LABEL_PREFIX, Array, Sample, Samples, inputs_of
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import InputSpec, ModelSpec


def checked(sample: Sample, name: str, spec: ModelSpec | None) -> dict[str, Array]:
    """``sample`` with everything as ``spec`` says, or an error that names what is not.

    Args:
        name: of the sample, for messages.
        spec: None for an ONNX from elsewhere: then only values are looked at.

    Raises:
        UserError: an input is missing, unknown, of another shape or dtype, not finite, or constant.
    """
    inputs = inputs_of(sample)
    if spec is not None:
        _require_names(inputs, name, spec)
        for item in spec.inputs:
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
        UserError: fewer than ``minimum``.
    """
    if len(samples) < minimum:
        raise UserError(
            f"{len(samples)} samples are too few, at least {minimum} are needed",
            fix="Make more with: edgeport samples SOURCE --model model.onnx -o DIR --count N",
        )


def _require_names(inputs: Mapping[str, Array], name: str, spec: ModelSpec) -> None:
    wanted = [item.name for item in spec.inputs]
    for key in wanted:
        if key not in inputs:
            raise UserError(
                f"sample {name} has no input {key!r}; it has {sorted(inputs)}",
                fix=f"Make samples for this model with: edgeport samples SOURCE --model MODEL "
                f"-o DIR ({spec.variant} takes {wanted})",
            )
    for key in inputs:
        if key not in wanted:
            raise UserError(
                f"sample {name} has an input {key!r} that {spec.variant} does not take",
                fix=f"{did_you_mean(key, wanted)} Ground truth goes under {LABEL_PREFIX}NAME",
            )


def _require_form(value: Array, item: InputSpec, name: str) -> None:
    fits = len(value.shape) == len(item.shape) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(value.shape, item.shape, strict=True)
    )
    if not fits or value.dtype.name != item.dtype:
        raise UserError(
            f"sample {name}: {item.name} is {value.dtype.name} {list(value.shape)}, "
            f"the model takes {item.dtype} {list(item.shape)}",
            fix="Make samples for this model with: edgeport samples SOURCE --model MODEL -o DIR",
        )


def _require_finite(value: Array, where: str) -> None:
    if not np.issubdtype(value.dtype, np.floating):
        return
    bad = int(value.size - np.count_nonzero(np.isfinite(value)))
    if bad:
        raise UserError(
            f"{where} holds {bad} NaN or infinite values of {value.size}",
            fix="Leave this sample out, or repair what made it",
        )


def _require_pictures(value: Array, item: InputSpec, name: str) -> None:
    cameras = item.details.get("cameras", range(len(value)))
    for camera, image in zip(cameras, value, strict=True):
        rows_and_columns = (0, 1) if image.shape[-1] == 3 else (1, 2)
        if (np.ptp(image, axis=rows_and_columns) == 0).all():
            raise UserError(
                f"sample {name}: the image of camera {camera} has one colour everywhere",
                fix="A black or covered camera calibrates nothing: leave this sample out",
            )


def _require_content(inputs: Mapping[str, Array], name: str) -> None:
    if not inputs:
        raise UserError(f"sample {name} has no inputs", fix="Only labels were found in it")
    if all(value.min() == value.max() for value in inputs.values() if value.size > 1):
        sized = [key for key, value in inputs.items() if value.size > 1]
        if sized:
            raise UserError(
                f"sample {name}: {', '.join(sized)} hold one constant value each",
                fix="A constant input calibrates nothing: leave this sample out",
            )
