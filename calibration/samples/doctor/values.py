"""Findings about the values in images: their scale, their contrast, their colour."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.samples.doctor.examination import ImageSet
from calibration.samples.findings import Finding, Severity, named

TOLERANCE = 0.05
"""Of the span, that values may exceed the limits by: resizing overshoots."""

FLAT = 0.01
"""Standard deviation, as a share of the span, below which an image is almost constant."""

FEW = 0.1
"""Share of the images up to which something wrong with single ones is only noted."""


def value_findings(name: str, images: ImageSet) -> Iterator[Finding]:
    """Of the input ``name``; contrast is judged where the scale is right."""
    scale = list(_mixed(name, images)) or list(_wrong_range(name, images))
    yield from scale or _almost_constant(name, images)
    yield from _no_color(name, images)


def _mixed(name: str, images: ImageSet) -> Iterator[Finding]:
    """No camera makes one picture that ends at 1 and another that ends at 255."""
    highest, lowest = images.features.high.max(axis=1), images.features.low.min(axis=1)
    small = (highest <= 1.0) & (lowest >= 0.0)
    large = highest >= 32.0
    if not small.any() or not large.any():
        return
    rare = small if small.sum() <= large.sum() else large
    samples = images.samples_with(rare[:, None])
    few = "stay within 0..1" if rare is small else f"go to {highest[large].max():.0f}"
    many = "go to 255 or thereabouts" if rare is small else "stay within 0..1"
    yield Finding(
        "mixed-range",
        "error",
        f"{name}: {len(samples)} of {len(images.names)} samples {few} while the others {many}: "
        f"{named(samples)}",
        "Bring all samples to the scale that the model takes",
        samples,
        {"samples": float(len(samples)), "of": float(len(images.names))},
    )


def _wrong_range(name: str, images: ImageSet) -> Iterator[Finding]:
    form, features = images.form, images.features
    span = form.span
    if span is None or form.low is None or form.high is None:
        return
    low, high = float(form.low.min()), float(form.high.max())
    seen_low, seen_high = float(features.low.min()), float(features.high.max())
    beyond = (features.low < low - TOLERANCE * span) | (features.high > high + TOLERANCE * span)
    if beyond.any():
        samples = images.samples_with(beyond)
        guess = " as pictures of 0..255 do" if high < 32 <= seen_high <= 255 + TOLERANCE else ""
    elif seen_low >= 0 and seen_high <= 1 and (high > 32 or low < -0.5):
        samples = images.names
        guess = " as pictures scaled to 0..1 do"
    else:
        return
    yield Finding(
        "wrong-range",
        "error",
        f"{name} goes from {seen_low:.4g} to {seen_high:.4g}{guess}, the model takes "
        f"{low:.4g} to {high:.4g} ({len(samples)} of {len(images.names)} samples: "
        f"{named(samples)})",
        "Make samples for this model with: edgeport samples SOURCE --model MODEL -o DIR",
        samples,
        {"lowest": seen_low, "highest": seen_high, "expected_low": low, "expected_high": high},
    )


def _almost_constant(name: str, images: ImageSet) -> Iterator[Finding]:
    features = images.features
    span = images.form.span or float(features.high.max() - features.low.min())
    contrast = features.std.max(axis=-1)
    flat = contrast < FLAT * span
    if not flat.any():
        return
    samples = images.samples_with(flat)
    share = float(flat.mean())
    severity: Severity = "error" if share > FEW else "note"
    yield Finding(
        "almost-constant",
        severity,
        f"{name}: {int(flat.sum())} of {images.images} images have hardly any contrast, the "
        f"faintest a standard deviation of {contrast.min() / span:.2%} of the range: "
        f"{named(samples)}",
        "Leave out black, covered and overexposed images",
        samples,
        {
            "images": float(flat.sum()),
            "of": float(images.images),
            "faintest": float(contrast.min()),
        },
    )


def _no_color(name: str, images: ImageSet) -> Iterator[Finding]:
    features = images.features
    if features.mean.shape[-1] != 3 or images.form.normalized:
        return
    if float(features.color.max()) > 0:
        return
    yield Finding(
        "no-color",
        "note",
        f"{name}: red, green and blue are equal in all {images.images} images",
        "Fine for grey cameras; else look at what made the samples",
        images.names,
    )
