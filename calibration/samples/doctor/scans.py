"""Findings about clouds of points: the scale of their intensities."""

from __future__ import annotations

from collections.abc import Iterator

from calibration.samples.doctor.examination import PointSet
from calibration.samples.findings import Finding, named
from exporters.clouds import intensity_problem


def point_findings(name: str, points: PointSet) -> Iterator[Finding]:
    """Of the input ``name``: KITTI's intensities end at 1, nuScenes' at 255."""
    problems = {
        sample: problem
        for sample, seen in points.seen.items()
        if (problem := intensity_problem(*seen, points.item))
    }
    if not problems:
        return
    samples = tuple(problems)
    seen = [points.seen[sample] for sample in samples]
    yield Finding(
        "wrong-range",
        "error",
        f"{name}: {problems[samples[0]]} ({len(samples)} of {len(points.seen)} samples: "
        f"{named(samples)})",
        "Make samples for this model with: edgeport samples SOURCE --model MODEL -o DIR",
        samples,
        {"lowest": min(low for low, _, _ in seen), "highest": max(high for _, high, _ in seen)},
    )
