"""Do the exported graph's boxes equal the trained network's? Asked before the file is written.

The network runs eagerly as it was trained (lists of pillars, BatchNorm), the graph in ONNX Runtime.
Every box of one must have its equal in the other: the same class, every number within 1e-3 (metres,
radians, metres a second), scores within 1e-4. Excused are boxes that rounding alone decides:
those with a score that close to the lowest one that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import EdgeportError
from exporters.pillarhist.config import AnchorHead
from exporters.pillarhist.decoding import AnchorBoxes, BoxRows, CentreBoxes, candidates_of
from exporters.pillarhist.model import PillarDetector

if TYPE_CHECKING:
    import onnx

BOX_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-4

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Exported graph against eager PyTorch, all samples together.

    Attributes:
        boxes: of eager PyTorch.
        max_difference: of any number of two equal boxes.
        ties: boxes without an equal that rounding decides.
        exceptions: other boxes without an equal.
    """

    samples: int
    boxes: int
    max_difference: float
    ties: int
    exceptions: int

    @property
    def holds(self) -> bool:
        return self.exceptions == 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "tolerance": BOX_TOLERANCE, "holds": self.holds}

    def __str__(self) -> str:
        ties = f"; {self.ties} fall differently by a tie" if self.ties else ""
        return (
            f"{self.boxes} boxes of {self.samples} clouds equal within {self.max_difference:.2g} "
            f"(tolerance {BOX_TOLERANCE:g}), {self.exceptions} do not{ties}"
        )


def compare(
    network: PillarDetector,
    proto: onnx.ModelProto,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    nms: str,
) -> Agreement:
    """Run both on every sample."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results = []
    for sample in samples:
        (found,) = session.run(None, dict(sample))
        results.append(
            compare_rows(eager(network, sample["points"], nms), found, network.config.head.score)
        )
    if not results:
        raise EdgeportError("no sample to compare the exported graph on")
    return Agreement(
        samples=len(results),
        boxes=sum(result.boxes for result in results),
        max_difference=max(result.max_difference for result in results),
        ties=sum(result.ties for result in results),
        exceptions=sum(result.exceptions for result in results),
    )


def eager(network: PillarDetector, points: NDArray[np.float32], nms: str) -> Rows:
    """Rows of boxes from the network as it was trained."""
    import torch

    config = network.config
    anchors = isinstance(config.head, AnchorHead)
    boxes = AnchorBoxes(config) if anchors else CentreBoxes(config, peaks=nms == "peak")
    groups, candidates = candidates_of(config)
    rows = BoxRows(config, groups, candidates, suppress=nms == "rotated")
    with torch.no_grad():
        result: Rows = rows(*boxes(network(torch.from_numpy(points)))).numpy()
    return result


def compare_rows(expected: Rows, found: Rows, lowest_score: float) -> Agreement:
    """Of one cloud: equal boxes are paired, whatever their order."""
    ours, theirs = expected[expected[:, -1] >= 0], found[found[:, -1] >= 0]
    free = np.ones(len(theirs), bool)
    largest, lonely = 0.0, []
    for row in ours:
        differences = _differences(row, theirs)
        fits = free & (theirs[:, -1] == row[-1]) & (differences <= BOX_TOLERANCE)
        fits &= np.abs(theirs[:, -2] - row[-2]) <= SCORE_TOLERANCE
        if not fits.any():
            lonely.append(row[-2])
            continue
        place = int(np.where(fits, differences, np.inf).argmin())
        free[place] = False
        largest = max(largest, float(differences[place]))
    scores = np.array([*lonely, *theirs[free, -2]])
    full = len(ours) == len(expected) or len(theirs) == len(found)
    edge = np.abs(scores - lowest_score) <= SCORE_TOLERANCE
    if full and len(ours):
        edge |= scores <= ours[-1, -2] + SCORE_TOLERANCE
    ties = int(edge.sum())
    return Agreement(1, len(ours), largest, ties, len(scores) - ties)


def _differences(row: Rows, others: Rows) -> NDArray[np.float32]:
    """Largest difference of any number of a box; yaw around the circle."""
    difference = np.abs(others[:, :-2] - row[:-2])
    turn = difference[:, 6] % (2 * np.pi)
    difference[:, 6] = np.minimum(turn, 2 * np.pi - turn)
    largest: NDArray[np.float32] = difference.max(axis=1, initial=0.0)
    return largest
