"""The cheapest mixture of INT8 and float that keeps a budget on the validation set.

    1. halve the predicted front until the cheapest point that holds is found;
    2. take back what was given back for nothing: quantize single units, or two neighbours, again,
       the dearest for their noise first, and keep every step with which the budget still holds.

What decides is the metric on the validation set, measured for every step; the prediction only says
where to look. Every trial is written down, so that the search goes on after an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from calibration.job import Progress
from calibration.sensitivity.budget import Budget, Measured
from calibration.sensitivity.front import Floats, Point, Predictor, predicted_front
from calibration.sensitivity.notebook import Notebook
from calibration.sensitivity.workbench import Workbench, save
from exporters.files import sha256_bytes

Scores = Mapping[str, Measured]
Score = Callable[[Path], Scores]
"""Metrics of a model file on the validation set, by name."""

EFFORT = 40
"""Trials of a search: quantized models that are scored."""


@dataclass(frozen=True)
class Trial:
    """A mixture that was scored.

    Attributes:
        holds: whether it keeps the budget.
        margin: by which the worst condition is kept; NaN where one has no evidence.
    """

    point: Point
    scores: Scores
    holds: bool
    margin: float


@dataclass
class Search:
    """One search; ``run`` it.

    Attributes:
        sure: the worse end of each metric's interval has to keep the budget, not its value.
        effort: how many trials there may be.
        trials: by what is INT8 in them.
        losses: of units that have to stay float: the scores with them in float and in INT8.
    """

    bench: Workbench
    predictor: Predictor
    budget: Budget
    score: Score
    notebook: Notebook
    folder: Path
    sure: bool = False
    effort: int = EFFORT
    progress: Progress | None = None
    trials: dict[Floats, Trial] = field(default_factory=dict)
    losses: dict[str, tuple[Trial, Trial]] = field(default_factory=dict)

    def run(self) -> list[Trial]:
        """Mixtures that hold, the cheapest first; empty where none was found."""
        front = predicted_front(self.predictor)
        chosen = self._halve(front)
        if chosen is None:
            return []
        self._take_back(chosen)
        held = [trial for trial in self.trials.values() if trial.holds]
        self._tell(finished=True)
        return sorted(held, key=lambda t: (t.point.cost, t.point.noise))

    @property
    def best(self) -> Trial:
        """The trial that comes nearest to the budget."""
        return max(
            self.trials.values(),
            key=lambda t: (t.holds, -math.inf if math.isnan(t.margin) else t.margin),
        )

    def try_point(self, point: Point) -> Trial:
        """Score one mixture, unless it was scored already."""
        if point.live not in self.trials:
            name = f"score {sha256_bytes(' '.join(sorted(point.live)).encode())[:16]}"
            found = self.notebook.recall(name, lambda: self._measure(point))
            scores = {metric: Measured(**values) for metric, values in found.items()}
            self.budget.require(scores)
            margins = [c.margin(scores[c.name], sure=self.sure) for c in self.budget.quality]
            margin = math.nan if any(map(math.isnan, margins)) else min(margins)
            holds = self.budget.holds(scores, sure=self.sure)
            self.trials[point.live] = Trial(point, scores, holds, margin)
            self._tell()
        return self.trials[point.live]

    def _measure(self, point: Point) -> dict[str, dict[str, float | None]]:
        units = [self.predictor.units[name] for name in sorted(point.floats)]
        path = save(self.bench.quantized(units), self.folder / "trial.onnx")
        scores = self.score(path)
        return {name: asdict(measured) for name, measured in scores.items()}

    def _halve(self, front: list[Point]) -> Trial | None:
        """The first point of the front that holds, if noise and metric go together."""
        low, high = 0, len(front) - 1
        found = self.try_point(front[low])
        if found.holds:
            return found
        found = self.try_point(front[high])
        if not found.holds:
            return None
        while high - low > 1 and self._may_go_on():
            middle = (low + high) // 2
            trial = self.try_point(front[middle])
            if trial.holds:
                found, high = trial, middle
            else:
                low = middle
        return found

    def _take_back(self, here: Trial) -> None:
        refused: set[Floats] = set()
        while self._may_go_on():
            move = self._next_move(here.point, refused)
            if move is None:
                return
            trial = self.try_point(self.predictor.point(here.point.floats - move))
            if trial.holds:
                here = trial
                continue
            refused.add(move)
            if len(move) == 1:
                self.losses[min(move)] = here, trial

    def _next_move(self, here: Point, refused: set[Floats]) -> Floats | None:
        """Units to quantize again: what saves most for the noise it adds."""
        best, value = None, 0.0
        for unit in sorted(here.floats):
            near = self.predictor.neighbours[unit] & here.floats
            for move in (frozenset((unit,)), *(frozenset((unit, other)) for other in near)):
                if any(move >= known for known in refused):
                    continue
                after = self.predictor.point(here.floats - move)
                worth = (here.cost - after.cost) / max(after.noise - here.noise, 1e-12)
                if worth > value:
                    best, value = move, worth
        return best

    def _may_go_on(self) -> bool:
        return len(self.trials) < self.effort

    def _tell(self, *, finished: bool = False) -> None:
        if self.progress:
            done = len(self.trials)
            self.progress("search", done, done if finished else max(self.effort, done))
