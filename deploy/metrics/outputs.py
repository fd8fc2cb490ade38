"""One output of two models, compared as what the model file says it is.

| semantics of the output       | compared by                                                     |
|-------------------------------|-----------------------------------------------------------------|
| ``…-labels``                  | agreement; per class, and per height slice where an axis is z   |
| ``…-logits``, class axis last | SQNR, cosine, max error, per class channel; agreement of argmax |
| ``boxes``                     | recall and precision: `deploy.metrics.boxes.again`              |
| another integer or bool       | agreement                                                       |
| another float                 | SQNR, cosine, max error                                         |

``details["axes"]`` of the output names its axes, ``["x", "y", "z"]``, and ``details["free_class"]``
is the label of empty space, which is most of any scene: ``agreement_occupied`` leaves out what both
call empty.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.again import BoxComparison
from deploy.metrics.labels import ConfusionMatrix, SliceAgreement
from deploy.metrics.tensors import ErrorAccumulator
from exporters.errors import UserError
from exporters.modelfile import OutputSpec

Array = NDArray[Any]
Metrics = dict[str, float]
Parts = dict[str, list[dict[str, Any]]]


class OutputComparison(Protocol):
    """Streaming comparison of one output over samples."""

    def update(self, reference: Array, candidate: Array) -> None:
        """Add one sample."""
        ...

    def merge(self, other: Any) -> None:
        """Add what another comparison of the same output has seen."""
        ...

    def metrics(self) -> Metrics:
        """Over everything seen; higher is better for ``agreement…``, ``sqnr_db`` and ``cosine``."""
        ...

    def rows(self) -> dict[str, tuple[float, ...]]:
        """What ``metrics`` is computed from, where it adds up over samples.

        ``deploy.metrics.pooled`` has the table.
        """
        ...

    def parts(self) -> Parts:
        """The same by class and by height slice, where the output has them."""
        ...

    @property
    def confusion(self) -> ConfusionMatrix | None:
        """Reference labels against candidate labels; None where the output has no classes."""
        ...


def compare_output(output: OutputSpec, classes: tuple[str, ...] = ()) -> OutputComparison:
    """The comparison that fits ``output``.

    Args:
        output: as the model file describes it.
        classes: names in label order; empty where the model file has none.
    """
    if classes and output.semantics.endswith("labels"):
        return LabelComparison(output, classes)
    if classes and output.semantics.endswith("logits"):
        return LogitComparison(output, classes)
    if classes and output.semantics == "boxes" and output.details.get("columns"):
        return BoxComparison(output, classes)
    if np.issubdtype(np.dtype(output.dtype), np.floating):
        return TensorComparison(output)
    return DiscreteComparison(output)


class TensorComparison:
    """A float output."""

    confusion: ConfusionMatrix | None = None

    def __init__(self, output: OutputSpec, part_names: tuple[str, ...] = ()) -> None:
        self._output = output
        self._part_names = part_names
        self._error = ErrorAccumulator(axis=-1 if part_names else None)

    def update(self, reference: Array, candidate: Array) -> None:
        _require_alike(self._output, reference, candidate)
        self._error.update(reference, candidate)

    def merge(self, other: TensorComparison) -> None:
        self._error.merge(other._error)

    def metrics(self) -> Metrics:
        error = self._error.result()
        return {
            "sqnr_db": error.sqnr_db,
            "cosine": error.cosine,
            "max_abs": error.max_abs,
            "mismatched": error.mismatched,
        }

    def rows(self) -> dict[str, tuple[float, ...]]:
        signal, other, dot, noise = (float(value) for value in self._error.sums)
        return {"sqnr_db": (signal, noise), "cosine": (dot, signal, other)}

    def parts(self) -> Parts:
        if not self._part_names:
            return {}
        errors = zip(self._part_names, self._error.parts(), strict=True)
        return {"class": [{"name": name, **asdict(error)} for name, error in errors]}


class DiscreteComparison:
    """An integer output of which nothing else is known."""

    confusion: ConfusionMatrix | None = None

    def __init__(self, output: OutputSpec) -> None:
        self._output = output
        self._equal = 0
        self._size = 0

    def update(self, reference: Array, candidate: Array) -> None:
        _require_alike(self._output, reference, candidate)
        self._equal += int((reference == candidate).sum())
        self._size += reference.size

    def merge(self, other: DiscreteComparison) -> None:
        self._equal += other._equal
        self._size += other._size

    def metrics(self) -> Metrics:
        return {"agreement": self._equal / self._size if self._size else float("nan")}

    def rows(self) -> dict[str, tuple[float, ...]]:
        return {"agreement": (self._equal, self._size)}

    def parts(self) -> Parts:
        return {}


class LabelComparison:
    """Labels of named classes."""

    def __init__(self, output: OutputSpec, classes: tuple[str, ...]) -> None:
        axes = list(output.details.get("axes", ()))
        self._output = output
        self._classes = classes
        self._free = output.details.get("free_class")
        self._slices = SliceAgreement(axes.index("z")) if "z" in axes else None
        self.confusion = ConfusionMatrix(len(classes))

    def update(self, reference: Array, candidate: Array) -> None:
        _require_alike(self._output, reference, candidate)
        self.confusion.update(reference, candidate)
        if self._slices is not None:
            self._slices.update(reference, candidate)

    def merge(self, other: LabelComparison) -> None:
        self.confusion.merge(other.confusion)
        if self._slices is not None and other._slices is not None:
            self._slices.merge(other._slices)

    def metrics(self) -> Metrics:
        return {
            name: equal / total if total else float("nan")
            for name, (equal, total) in self.rows().items()
        }

    def rows(self) -> dict[str, tuple[float, ...]]:
        equal, total = int(np.trace(self.confusion.counts)), self.confusion.total
        rows: dict[str, tuple[float, ...]] = {"agreement": (equal, total)}
        if self._free is not None:
            both_free = int(self.confusion.counts[int(self._free), int(self._free)])
            rows["agreement_occupied"] = (equal - both_free, total - both_free)
        return rows

    def parts(self) -> Parts:
        matrix = self.confusion
        rows = zip(
            self._classes,
            matrix.counts.sum(axis=1).tolist(),
            matrix.counts.sum(axis=0).tolist(),
            matrix.iou.tolist(),
            matrix.flip_rates.tolist(),
            strict=True,
        )
        keys = ("name", "reference_count", "candidate_count", "iou", "flip_rate")
        parts: Parts = {"class": [dict(zip(keys, row, strict=True)) for row in rows]}
        if self._slices is not None:
            agreement = enumerate(self._slices.agreement.tolist())
            parts["z"] = [{"name": f"z{index}", "agreement": value} for index, value in agreement]
        return parts


class LogitComparison:
    """Class scores: a tensor with one part a class, and the labels that argmax makes of it."""

    def __init__(self, output: OutputSpec, classes: tuple[str, ...]) -> None:
        self._tensor = TensorComparison(output, classes)
        self._labels = LabelComparison(output, classes)
        self.confusion = self._labels.confusion

    def update(self, reference: Array, candidate: Array) -> None:
        self._tensor.update(reference, candidate)
        self._labels.update(reference.argmax(axis=-1), candidate.argmax(axis=-1))

    def merge(self, other: LogitComparison) -> None:
        self._tensor.merge(other._tensor)
        self._labels.merge(other._labels)

    def metrics(self) -> Metrics:
        return {**self._labels.metrics(), **self._tensor.metrics()}

    def rows(self) -> dict[str, tuple[float, ...]]:
        return {**self._labels.rows(), **self._tensor.rows()}

    def parts(self) -> Parts:
        labels, tensor = self._labels.parts(), self._tensor.parts()
        both = [{**a, **b} for a, b in zip(labels["class"], tensor["class"], strict=True)]
        return {**labels, "class": both}


def _require_alike(output: OutputSpec, reference: Array, candidate: Array) -> None:
    def is_float(array: Array) -> bool:
        return np.issubdtype(array.dtype, np.floating)

    if reference.shape != candidate.shape or is_float(reference) != is_float(candidate):
        raise UserError(
            f"output {output.name!r} is {reference.dtype} {list(reference.shape)} in the "
            f"reference and {candidate.dtype} {list(candidate.shape)} in the candidate",
            fix="Compare two files of the same variant, geometry and output",
        )
