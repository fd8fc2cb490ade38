"""Findings about samples that say the same again, exactly or nearly.

Exact: equal bytes in all inputs. Nearly: in every image input the thumbnails differ by less than
1 % of the energy of their contrast, as neighbouring frames of a standing car do, or one picture
saved twice. A fixed camera makes such samples all the time, so that alone refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calibration.samples.doctor.examination import Examination, ImageSet
from calibration.samples.findings import Finding, Severity, named

NEAR = 0.01
"""Energy of the difference of two thumbnails over the energy of their contrast."""


def duplicate_findings(examination: Examination, minimum: int) -> Iterator[Finding]:
    """Of the set; fewer different samples than ``minimum``, or than half the set, is an error."""
    total, distinct = len(examination.names), len(set(examination.digests.values()))
    if distinct < total:
        yield _exact(examination, distinct, minimum)
    yield from _near(examination)


def _exact(examination: Examination, distinct: int, minimum: int) -> Finding:
    total = len(examination.names)
    first: dict[str, str] = {}
    again, pairs = [], []
    for name, digest in examination.digests.items():
        if digest in first:
            again.append(name)
            pairs.append(f"{name} = {first[digest]}")
        first.setdefault(digest, name)
    severity: Severity = "error" if distinct < minimum or distinct < total / 2 else "note"
    return Finding(
        "duplicates",
        severity,
        f"among {total} samples only {distinct} differ: {named(pairs)}",
        "Leave the copies out",
        tuple(again),
        {"samples": float(total), "distinct": float(distinct)},
    )


def _near(examination: Examination) -> Iterator[Finding]:
    sets = list(examination.images.values())
    names = sets[0].names if sets else ()
    if len(names) < 2 or any(images.names != names for images in sets):
        return
    near = np.logical_and.reduce([_close(images) for images in sets])
    digests = np.array([examination.digests[name] for name in names], dtype="U64")
    near &= digests[:, None] != digests[None, :]
    pairs = np.argwhere(np.triu(near, 1))
    if not len(pairs):
        return
    again = tuple(names[i] for i in dict.fromkeys(int(later) for _, later in pairs))
    told = [f"{names[later]} ≈ {names[earlier]}" for earlier, later in pairs]
    yield Finding(
        "near-duplicates",
        "note",
        f"{len(again)} of {len(names)} samples hardly differ from another one: {named(told)}",
        "Take frames further apart: samples that repeat calibrate nothing more",
        again,
        {"samples": float(len(again)), "of": float(len(names))},
    )


def _close(images: ImageSet) -> NDArray[np.bool_]:
    """Which pairs of samples have nearly the same thumbnails, ``[samples, samples]``.

    ``|a - b|^2 = |a|^2 + |b|^2 - 2ab`` in float64, exact to 1e-12 of the squares.
    """
    flat = images.features.thumbnail.reshape(len(images.names), -1).astype(np.float64)
    size = images.features.thumbnail.shape[-1] ** 2
    planes = flat.reshape(len(flat), -1, size)
    contrast = np.square(planes - planes.mean(axis=-1, keepdims=True)).sum(axis=(1, 2))
    flat -= flat.mean(axis=0)
    square = np.square(flat).sum(axis=1)
    distance = np.maximum(square[:, None] + square[None, :] - 2 * flat @ flat.T, 0)
    close: NDArray[np.bool_] = distance < NEAR * (contrast[:, None] + contrast[None, :]) / 2
    return close
