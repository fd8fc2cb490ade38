"""One pass over a set: what is kept of every sample so that the set can be judged as a whole.

Of a sample remain a hash and, of each input, some numbers and small grey thumbnails: 7 kB for six
camera images. Of more than 1024 samples an even choice is kept (hashes of all), so memory is
bounded, and so is the work of comparing each with each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from calibration.observing.thinned import Thinned
from calibration.samples.base import Array, input_hash
from calibration.samples.doctor.images import Floats, ImageFeatures, ImageForm, image_form
from calibration.samples.points import POINTS
from exporters.clouds import intensities
from exporters.modelfile import InputSpec, ModelSpec

LIMIT = 1024
"""Samples whose features are kept."""

Features = NDArray[np.float64]

COLOR = "excess"
"""In the names of features that tell red and blue from green."""


@dataclass(frozen=True)
class ImageSet:
    """Features of one image input over the kept samples; arrays have the sample as first axis.

    Attributes:
        names: of the samples, one an entry.
        features: arrays of `ImageFeatures` with one axis more in front.
    """

    form: ImageForm
    names: tuple[str, ...]
    features: ImageFeatures

    @property
    def images(self) -> int:
        """Number of images in all."""
        return int(self.features.low.size)

    def samples_with(self, images: NDArray[np.bool_]) -> tuple[str, ...]:
        """Names of samples of which any of the images ``[samples, n]`` is true."""
        found = np.flatnonzero(images.any(axis=1))
        return tuple(self.names[index] for index in found)


@dataclass(frozen=True)
class PointSet:
    """Intensities of one input of points over the kept samples.

    Attributes:
        seen: name of a sample to the lowest and the highest one, and the number of points.
    """

    item: InputSpec
    seen: Mapping[str, tuple[float, float, int]]


@dataclass(frozen=True)
class Examination:
    """What a pass saw.

    Attributes:
        names: of all samples.
        digests: sample name to `input_hash`.
        images: of every input that holds images.
        points: of every input that holds points with intensities.
        summaries: ``[kept, features]``, see `summary_names`; any input counts, in float64.
        swapped: ``summaries`` if red and blue were exchanged.
    """

    names: tuple[str, ...]
    digests: Mapping[str, str]
    images: Mapping[str, ImageSet]
    points: Mapping[str, PointSet]
    summary_names: tuple[str, ...]
    summaries: Features
    swapped: Features


@dataclass(frozen=True)
class _Kept:
    name: str
    images: Mapping[str, ImageFeatures]
    points: Mapping[str, tuple[float, float, int]]
    summary: Mapping[str, float]


def examine(
    feeds: Iterable[tuple[str, Mapping[str, Array]]],
    expected: ModelSpec,
    *,
    described: bool,
    progress: Callable[[int], None] | None = None,
) -> Examination:
    """One streaming pass.

    Args:
        feeds: sample names and inputs, which fit ``expected`` and are finite.
        described: whether ``expected`` is a self-description, which says what is an image.
        progress: called with the number of samples seen.
    """
    forms = {
        item.name: form
        for item in expected.inputs
        if (form := image_form(item, described=described)) is not None
    }
    clouds = {item.name: item for item in expected.inputs if item.semantics == POINTS}
    names: list[str] = []
    digests: dict[str, str] = {}
    kept: Thinned[_Kept] = Thinned(LIMIT)
    for name, inputs in feeds:
        names.append(name)
        digests[name] = input_hash(inputs)
        if kept.wants_next:
            kept.add(_keep(name, inputs, forms, clouds))
        else:
            kept.skip()
        if progress:
            progress(len(names))
    images = {key: found for key, form in forms.items() if (found := _stack(key, form, kept.items))}
    points = {
        key: PointSet(item, {k.name: k.points[key] for k in kept.items if key in k.points})
        for key, item in clouds.items()
    }
    # samples may differ in size, and an image of a few pixels has no neighbours to compare
    first = kept.items[0].summary if kept.items else {}
    summary_names = tuple(k for k in first if all(k in item.summary for item in kept.items))
    rows = [[item.summary[key] for key in summary_names] for item in kept.items]
    summaries = np.array(rows, float).reshape(len(rows), len(summary_names))
    order = [summary_names.index(_swapped_name(key, summary_names)) for key in summary_names]
    swapped = summaries[:, order]
    return Examination(tuple(names), digests, images, points, summary_names, summaries, swapped)


def _keep(
    name: str,
    inputs: Mapping[str, Array],
    forms: Mapping[str, ImageForm],
    clouds: Mapping[str, InputSpec],
) -> _Kept:
    images: dict[str, ImageFeatures] = {}
    points: dict[str, tuple[float, float, int]] = {}
    summary: dict[str, float] = {}
    for key, value in inputs.items():
        if key in clouds and (seen := intensities(value, clouds[key])).size:
            points[key] = (float(seen.min()), float(seen.max()), len(seen))
        features = ImageFeatures.of(value, forms[key]) if key in forms else None
        if features is not None:
            images[key] = features
            summary |= _summary_of_images(key, features)
        elif value.size:
            summary |= {f"{key} mean": float(value.mean()), f"{key} std": float(value.std())}
    return _Kept(name, images, points, summary)


def _summary_of_images(key: str, features: ImageFeatures) -> dict[str, float]:
    """Means over the images of a sample.

    Outer channels are told by what they differ from the middle one: brightness, which varies most,
    would hide colour.
    """
    summary = {f"{key} smoothness": float(features.neighbours.mean())}
    for what, values in (("mean", features.mean), ("std", features.std)):
        channels = values.mean(axis=0)
        summary[f"{key} {what}"] = float(channels.mean())
        if len(channels) == 3:
            for c in (0, 2):
                summary[f"{key} {COLOR} {what} of channel {c}"] = float(channels[c] - channels[1])
    return summary


def _swapped_name(name: str, names: tuple[str, ...]) -> str:
    stem, separator, channel = name.rpartition(" of channel ")
    if not separator or f"{stem}{separator}2" not in names:
        return name
    return f"{stem}{separator}{2 - int(channel)}"


def _stack(key: str, form: ImageForm, kept: list[_Kept]) -> ImageSet | None:
    """All samples with as many images as the first; others cannot be stacked."""
    found = [(item.name, item.images[key]) for item in kept if key in item.images]
    if not found:
        return None
    shape = found[0][1].mean.shape
    alike = [(name, features) for name, features in found if features.mean.shape == shape]
    stacked: dict[str, Floats] = {
        field.name: np.stack([getattr(features, field.name) for _, features in alike])
        for field in fields(ImageFeatures)
    }
    return ImageSet(form, tuple(name for name, _ in alike), ImageFeatures(**stacked))
