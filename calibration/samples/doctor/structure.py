"""Findings about how pixels lie beside each other: wrong layout, random data.

Neighbouring pixels of a picture correlate by 0.5 and more, of white noise by ``0 ± 1/sqrt(n)`` with
``n`` pixels. That is far enough apart to refuse noise without a doubt. Memory of ``[H, W, C]`` that
was *reshaped* to ``[C, H, W]`` where it had to be transposed looks rough as declared and smooth
when read as it was.

What cannot be told: noise that was enlarged or blurred, rows and columns exchanged, images upside
down. They pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.samples.doctor.examination import ImageSet
from calibration.samples.doctor.values import FEW
from calibration.samples.findings import Finding, Severity, named

UNCORRELATED = 0.1
"""Neighbour correlation, right and below, that no picture has. White noise on a grid of 16 by 16
strays by 0.06, on 128 by 128 by 0.008."""

WHITE = 0.4
"""Spectral flatness above which noise is white; 0.56 is expected, pictures stay below 0.2."""

ROUGHER = 1.1
"""How many times rougher (``1 - correlation``) most samples must be as declared than misread, to
call the layout wrong. Of 45 photographs, scans and thumbnails in grey and colour the right ones
were at 0.84 at most, the wrong ones at 1.2 at least."""


def structure_findings(name: str, images: ImageSet) -> Iterator[Finding]:
    """Of the input ``name``; a wrong layout explains what looks like noise."""
    layout = list(_wrong_layout(name, images))
    yield from layout or _random(name, images)


def _wrong_layout(name: str, images: ImageSet) -> Iterator[Finding]:
    features, form = images.features, images.form
    if np.isnan(features.misread_neighbours).any():
        return
    declared = 1 - features.neighbours.mean(axis=(1, 2))
    misread = 1 - features.misread_neighbours.mean(axis=1)
    wrong = declared > ROUGHER * np.maximum(misread, 1e-3)
    if wrong.mean() <= 0.5:
        return
    samples = images.samples_with(wrong[:, None])
    numbers = {
        "correlation": float(1 - declared.mean()),
        "as_other_layout": float(1 - misread.mean()),
    }
    axes = "0, 3, 1, 2" if form.layout == "NCHW" else "0, 2, 3, 1"
    yield Finding(
        "wrong-layout",
        "error",
        f"{name} should be {form.layout}, but neighbouring pixels correlate by "
        f"{numbers['correlation']:.2f} as such and by {numbers['as_other_layout']:.2f} if its "
        f"memory is read as {form.other_layout} ({len(samples)} of {len(images.names)} samples: "
        f"{named(samples)})",
        f"Transpose images instead of reshaping them: x.transpose({axes})",
        samples,
        numbers,
    )


def _random(name: str, images: ImageSet) -> Iterator[Finding]:
    features = images.features
    noise = (np.abs(features.neighbours).max(axis=-1) < UNCORRELATED) & (features.flatness > WHITE)
    if not noise.any():
        return
    samples = images.samples_with(noise)
    severity: Severity = "error" if noise.mean() > FEW else "note"
    numbers = {
        "images": float(noise.sum()),
        "of": float(images.images),
        "correlation": float(features.neighbours[noise].mean()),
        "flatness": float(features.flatness[noise].mean()),
    }
    yield Finding(
        "random-data",
        severity,
        f"{name}: {int(noise.sum())} of {images.images} images are white noise: neighbouring "
        f"pixels correlate by {numbers['correlation']:.3f} (pictures: over 0.5), spectral flatness "
        f"{numbers['flatness']:.2f} (noise: 0.56): {named(samples)}",
        "Ranges that come from noise are wrong for pictures: calibrate on images of the kind that "
        "the model will see",
        samples,
        numbers,
    )
