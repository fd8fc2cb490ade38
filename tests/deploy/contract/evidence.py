"""Evidence with known numbers: what the JSON of a bundle, a benchmark and a board would say."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploy.comparison import paired_json
from deploy.console import plain
from deploy.contract.evidence import FileEvidence, MetricEvidence
from deploy.metrics.paired import Pool, mean, sums_of
from deploy.metrics.pooled import ClassPools, PairedMetric, metric_of_task


def metric(loss: float, *, count: int = 40, spread: float = 0.1, **classes: float) -> PairedMetric:
    """A mean over samples: FP32 has 50, the candidate ``loss`` less; classes lose their own."""
    random = np.random.default_rng(0)
    noise = random.normal(size=count)
    noise = (noise - noise.mean()) / noise.std(ddof=1)

    def pools(lost: float) -> tuple[Pool, Pool]:
        ours = random.normal(size=count)
        ours += 50.0 - ours.mean()
        return tuple(
            sums_of(np.stack([values, np.ones(count)], axis=1), mean)
            for values in (ours, ours - lost + spread * noise)
        )  # type: ignore[return-value]

    parts = {n: ClassPools(pools(lost), list(range(count))) for n, lost in classes.items()}
    names = [f"s{index}" for index in range(count)]
    return metric_of_task("score", "%", pools(loss), names, parts)


def evidence(name: str = "int8", **parts: Any) -> FileEvidence:
    """Evidence of a file; ``metrics`` are ``PairedMetric``s and go through their JSON."""
    metrics = parts.pop("metrics", None)
    if metrics is not None:
        parts["metrics"] = tuple(MetricEvidence.from_json(plain(paired_json(m))) for m in metrics)
    return FileEvidence(name, **parts)


def timed(p99: tuple[float, float, float] | None, ratio: tuple[float, float, float]) -> Any:
    """An entry under ``latency.cases``."""
    value, low, high = p99 or (None, None, None)
    return {
        "name": "int8",
        "latencies_ms": [1.0] * 400,
        "percentiles": [
            {
                "p": 99.0,
                "value_ms": value,
                "low_ms": low,
                "high_ms": high,
                "reason": None if p99 else "p99 needs 368 runs",
            }
        ],
        "ratio_to_reference": dict(zip(("value", "low", "high"), ratio, strict=True)),
        "peak_rss_mib": 210.5,
    }
