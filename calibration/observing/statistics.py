"""What a calibration saw of every observed tensor, in fixed memory, on disk if wanted.

One pass over the samples serves every scale method and every policy: statistics are keyed by the
model's and the sample set's SHA-256, and are refused where either differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from calibration.observing.histogram import BINS, Histogram
from calibration.observing.sample_ranges import SampleRanges
from calibration.samples.findings import Diagnosis
from exporters.errors import UserError
from exporters.files import written_atomically

FORMAT = "edgeport.statistics/2"


@dataclass
class TensorStatistics:
    """Of one tensor over all samples.

    Attributes:
        minimum, maximum: exact.
        elements: how many values there were. The histogram may have counted a regular subset.
        histogram: None where the scale method needs only the range.
        ranges: of single samples; empty for several tensors merged.
    """

    minimum: float = np.inf
    maximum: float = -np.inf
    elements: int = 0
    histogram: Histogram | None = None
    ranges: SampleRanges = field(default_factory=SampleRanges)

    def add_range(self, low: float, high: float) -> None:
        """Of the next sample."""
        self.minimum = min(self.minimum, low)
        self.maximum = max(self.maximum, high)
        self.ranges.add(low, high)

    @classmethod
    def merged(cls, parts: Iterable[TensorStatistics]) -> TensorStatistics:
        """Of all values of ``parts`` together; every tensor weighs by its number of elements."""
        items = list(parts)
        histogram: Histogram | None = None
        for item in items:
            if item.histogram is None:
                histogram = None
                break
            part = item.histogram.scaled(item.elements / max(item.histogram.total, 1.0))
            histogram = part if histogram is None else histogram + part
        return cls(
            minimum=min(item.minimum for item in items),
            maximum=max(item.maximum for item in items),
            elements=sum(item.elements for item in items),
            histogram=histogram,
        )


@dataclass(frozen=True)
class Statistics:
    """Statistics of the observed tensors of one model over one sample set.

    Attributes:
        sample_names: what was run through the model, in order.
        tensors: tensor name to its statistics.
        diagnosis: what the calibration-set doctor said of the samples.
        seconds, forward_seconds: wall-clock time of the pass, and of the model's share in it;
            not saved.
    """

    model_sha256: str
    samples_sha256: str
    sample_names: tuple[str, ...]
    tensors: Mapping[str, TensorStatistics]
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    seconds: float = field(default=0.0, compare=False)
    forward_seconds: float = field(default=0.0, compare=False)

    @property
    def has_histograms(self) -> bool:
        return all(t.histogram is not None for t in self.tensors.values())

    def of(self, names: Iterable[str]) -> TensorStatistics:
        """Merged statistics of several tensors.

        Raises:
            UserError: one of them was not observed.
        """
        wanted = list(names)
        missing = [name for name in wanted if name not in self.tensors]
        if missing:
            raise UserError(
                f"the statistics lack {len(missing)} tensor(s), the first is {missing[0]!r}",
                fix="Observe the model again with the same options as the quantization",
            )
        return TensorStatistics.merged(self.tensors[name] for name in wanted)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write an ``.npz``; equal statistics give equal bytes."""
        names = sorted(self.tensors)
        items = [self.tensors[name] for name in names]
        histograms = [i.histogram or Histogram() for i in items] if self.has_histograms else []
        header = {
            "format": FORMAT,
            "model_sha256": self.model_sha256,
            "samples_sha256": self.samples_sha256,
            "sample_names": self.sample_names,
            "tensors": names,
            "diagnosis": asdict(self.diagnosis),
        }
        arrays: dict[str, Any] = {
            "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8),
            "minimum": np.array([i.minimum for i in items]),
            "maximum": np.array([i.maximum for i in items]),
            "elements": np.array([i.elements for i in items], np.int64),
            "ranges": np.array([i.ranges.array for i in items]),
            "exponent": np.array([h.exponent for h in histograms], np.int64),
            "zeros": np.array([h.zeros for h in histograms]),
            "counts": np.array([h.counts for h in histograms]).reshape(-1, 2 * BINS),
        }
        with written_atomically(path, overwrite=overwrite) as temporary, temporary.open("wb") as f:
            np.savez_compressed(f, **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what ``save`` wrote.

        Raises:
            UserError: no such file, or it holds something else.
        """
        try:
            with np.load(path) as data:
                header = _header(data)
                arrays = {key: data[key] for key in data.files}
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise UserError(
                f"{path} holds no calibration statistics: {error}",
                fix="Make them with calibration.observe(...).save(path)",
            ) from error
        tensors = {
            name: TensorStatistics(
                minimum=float(arrays["minimum"][i]),
                maximum=float(arrays["maximum"][i]),
                elements=int(arrays["elements"][i]),
                histogram=_histogram(arrays, i),
                ranges=SampleRanges((float(a), float(b)) for a, b in arrays["ranges"][i]),
            )
            for i, name in enumerate(header["tensors"])
        }
        return cls(
            header["model_sha256"],
            header["samples_sha256"],
            tuple(header["sample_names"]),
            tensors,
            Diagnosis.parse(header["diagnosis"]),
        )


def _header(data: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(data["header"].tobytes())
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']!r}, expected {FORMAT!r}")
    return header


def _histogram(arrays: Mapping[str, Any], i: int) -> Histogram | None:
    if not len(arrays["counts"]):
        return None
    return Histogram(
        int(arrays["exponent"][i]), arrays["counts"][i].copy(), float(arrays["zeros"][i])
    )
