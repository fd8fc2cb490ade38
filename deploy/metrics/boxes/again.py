"""Lists of boxes of two models without ground truth: which boxes of one does the other have too?

A row of a list says nothing alone, since its place changes with its score. So an output of boxes is
not compared number by number but by

    recall    = boxes of the reference that the candidate has too / boxes of the reference
    precision = boxes of the candidate that the reference has too / boxes of the candidate

over all samples: the same class, and IoU of 0.7 or more seen from above. Counted are boxes of score
0.3 or more; they may be found again with any score, since one that falls just below is not lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.boxes.from_samples import FoundBoxes
from deploy.metrics.boxes.rotated import rotated_iou
from deploy.metrics.labels import ConfusionMatrix
from exporters.modelfile import OutputSpec

LEAST_SCORE = 0.3
LEAST_IOU = 0.7

_FLAT = (0, 1, 3, 4, 6)  # x, y, length, width, yaw of a box


def found_again(
    reference: FoundBoxes,
    candidate: FoundBoxes,
    score: float = LEAST_SCORE,
    iou: float = LEAST_IOU,
    classes: Sequence[str] | None = None,
) -> tuple[int, int]:
    """How many boxes of the reference, of at least ``score``, the candidate has too; of how many.

    Each box of the candidate, best score first, takes the nearest free one of its class.

    Args:
        classes: that count; None for all.
    """
    kept = zip(reference.scores, reference.names, strict=True)
    wanted = [
        index
        for index, (value, name) in enumerate(kept)
        if value >= score and (classes is None or name in classes)
    ]
    free, total = set(wanted), len(wanted)
    overlaps = rotated_iou(candidate.boxes[:, _FLAT], reference.boxes[:, _FLAT])
    for row in np.argsort(-candidate.scores, kind="stable"):
        same = [i for i in free if reference.names[i] == candidate.names[row]]
        best = max(same, key=lambda index: overlaps[row, index], default=None)
        if best is not None and overlaps[row, best] >= iou:
            free.remove(best)
    return total - len(free), total


class BoxComparison:
    """An output of boxes; see `deploy.metrics.outputs.OutputComparison`."""

    confusion: ConfusionMatrix | None = None

    def __init__(self, output: OutputSpec, classes: Sequence[str]) -> None:
        self._columns, self._classes = output.details.get("columns", ()), classes
        self._counts = np.zeros((2, 2), np.int64)

    def update(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        ours, theirs = (
            FoundBoxes.of_rows(rows, self._columns, self._classes)
            for rows in (reference, candidate)
        )
        self._counts += (found_again(ours, theirs), found_again(theirs, ours))

    def merge(self, other: BoxComparison) -> None:
        self._counts += other._counts

    def metrics(self) -> dict[str, float]:
        return {
            name: found / total if total else float("nan")
            for name, (found, total) in self.rows().items()
        }

    def rows(self) -> dict[str, tuple[float, ...]]:
        recall, precision = ((int(found), int(total)) for found, total in self._counts)
        return {"recall": recall, "precision": precision}

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        return {}
