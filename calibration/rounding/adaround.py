"""AdaRound: round each weight up or down so that the layer's output, not the weight, errs least.

    minimise over V     | f(x^ W~ + b) - f(x W + b) |²  +  lambda sum( 1 - |2 h(V) - 1|^beta )
    W~ = s clip( floor(W / s) + h(V), -Q, Q ),     h(V) = clip( 1.2 sigmoid(V) - 0.1, 0, 1 )

(Nagel et al., arXiv:2004.10568): x^ is what the quantized layers before hand on, x and f what the
float network has, f the fused activation. beta falls from 20 to 2, which pushes every h to 0 or 1;
the first fifth of the steps runs without that push. Both terms are relative to the error of nearest
rounding, so that one lambda serves all layers.

At the end single weights are turned as long as that helps, from there and from nearest rounding.

Rows are what `calibration.rounding.patches` makes of a layer, so there is one loop for every kind
of layer. The result counts only if it is better than nearest on rows it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import MissingRequirementError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

_WORTH_THREADS = 1 << 26  # multiply-adds of a step
_ROUNDS = 64  # of turning single weights at the end
_STRETCH, _BELOW = 1.2, 0.1  # h(V) reaches 0 and 1 at finite V


@dataclass(frozen=True)
class LearningPlan:
    """How long and how hard.

    Attributes:
        steps: of Adam, for every layer.
        batch: rows a step.
        rate: Adam's learning rate.
        push: lambda; the error counts relative to nearest rounding's, the rest as a mean.
        seed: of the batches.
    """

    steps: int = 500
    batch: int = 256
    rate: float = 2e-2
    push: float = 30.0
    seed: int = 0


@dataclass(frozen=True)
class Rows:
    """What one layer sees and shall say, at some positions of its output.

    Attributes:
        inputs: float32 ``[n, groups, k]``, of the quantized network.
        offset: float32 ``[n, groups, out/groups]``: what the weights do not make: the bias, the
            other half of a split layer.
        target: float32 ``[n, groups, out/groups]``: the float network's, behind the activation.
    """

    inputs: Floats
    offset: Floats
    target: Floats


@dataclass(frozen=True)
class Learned:
    """Integers ``[groups, out/groups, k]`` and squared errors on rows held back."""

    integers: NDArray[np.int8]
    nearest_error: float
    learned_error: float

    @property
    def better(self) -> bool:
        return self.learned_error < self.nearest_error


def require_torch() -> None:
    """Refuse before any work is done.

    Raises:
        MissingRequirementError: torch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingRequirementError(
            "--rounding adaround learns with torch, which is not installed",
            fix="pip install 'edgeport[export]', or choose --rounding nearest",
        ) from error


def learn_rounding(
    weight: Floats,
    steps: Floats,
    learn: Rows,
    judge: Rows,
    *,
    largest: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    plan: LearningPlan | None = None,
    tick: Callable[[], None] | None = None,
) -> Learned:
    """Round one layer.

    Args:
        weight: ``[groups, out/groups, k]``.
        steps: the grid's step of every weight, of the same shape.
        judge: rows to compare with nearest rounding on.
        largest: integers stay within ± this.
        bounds: of the activation: (0, inf) for Relu.
        tick: called after every hundredth step.
    """
    plan = plan or LearningPlan()
    with _few_threads(min(plan.batch, len(learn.inputs)) * weight.size):
        return _learned(weight, steps, learn, judge, largest, bounds, plan, tick)


def _learned(
    weight: Floats,
    steps: Floats,
    learn: Rows,
    judge: Rows,
    largest: int,
    bounds: tuple[float, float],
    plan: LearningPlan,
    tick: Callable[[], None] | None,
) -> Learned:
    import torch

    scaled = weight.astype(np.float64) / steps
    floor = np.floor(scaled)
    fraction = torch.from_numpy((scaled - floor).astype(np.float32))
    base, step = torch.from_numpy(floor.astype(np.float32)), torch.from_numpy(np.array(steps))
    layer = _Layer(bounds, largest, base, step)
    nearest = torch.from_numpy((np.rint(scaled) - floor).astype(np.float32))
    data = _tensors(learn)
    reference = max(float(layer.error(nearest, *data)), np.finfo(np.float32).tiny)
    choice = torch.log((fraction + _BELOW) / (_STRETCH - fraction - _BELOW)).requires_grad_()
    optimizer = torch.optim.Adam([choice], lr=plan.rate)
    generator = torch.Generator().manual_seed(plan.seed)
    count = data[0].shape[1]
    for index in range(plan.steps):
        drawn = torch.randint(count, (min(plan.batch, count),), generator=generator)
        up = torch.clamp(_STRETCH * torch.sigmoid(choice) - _BELOW, 0, 1)
        loss = layer.error(up, *(t[:, drawn] for t in data)) / reference
        loss = loss + plan.push * _undecided(up, index / plan.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if tick and index % 100 == 99:
            tick()
    with torch.no_grad():
        halfway = layer.descended((choice >= 0).float(), data)  # h >= 1/2
        up = min(halfway, layer.descended(nearest, data), key=lambda up: layer.error(up, *data))
        held = _tensors(judge)
        errors = float(layer.error(nearest, *held)), float(layer.error(up, *held))
        integers = torch.clamp(base + up, -largest, largest).numpy().astype(np.int8)
    return Learned(integers, *errors)


@contextmanager
def _few_threads(multiply_adds: int) -> Iterator[None]:
    """One thread for small layers: waiting for a second one takes longer than their steps."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(threads if multiply_adds > _WORTH_THREADS else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Layer:
    """The loss of one layer as a function of how far each weight is rounded up.

    Rows come as ``[groups, n, …]`` here.
    """

    bounds: tuple[float, float]
    largest: int
    base: torch.Tensor
    step: torch.Tensor

    def error(
        self, up: torch.Tensor, inputs: torch.Tensor, offset: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error of the output behind the activation."""
        import torch

        made = torch.clamp(self._linear(up, inputs, offset), *self.bounds)
        return torch.mean((made - target) ** 2)

    def descended(self, up: torch.Tensor, data: Sequence[torch.Tensor]) -> torch.Tensor:
        """``up``, 0 or 1, after single weights were turned as long as that helps.

        In every round each output channel turns the weight that promises most, by the slope and the
        curvature of its squared error where the activation lets it through.
        """
        import torch

        inputs, _, target = data
        curvature = (inputs**2).sum(1, keepdim=True) * self.step**2
        best = self.error(up, *data)
        for _ in range(_ROUNDS):
            linear = self._linear(up, *data[:2])
            through = (linear > self.bounds[0]) & (linear < self.bounds[1])
            error = (torch.clamp(linear, *self.bounds) - target) * through
            turn = 1 - 2 * up
            slope = torch.bmm(error.transpose(1, 2), inputs) * self.step
            promise = 2 * turn * slope + curvature
            promise[torch.abs(self.base + up + turn) > self.largest] = 0
            most, where = promise.min(2, keepdim=True)
            turned = up.scatter_add(2, where, turn.gather(2, where) * (most < 0))
            now = self.error(turned, *data)
            if not now < best:
                break
            up, best = turned, now
        return up

    def _linear(self, up: torch.Tensor, inputs: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        import torch

        weight = torch.clamp(self.base + up, -self.largest, self.largest) * self.step
        return torch.bmm(inputs, weight.transpose(1, 2)) + offset


def _undecided(up: torch.Tensor, progress: float) -> Any:
    """Mean of 1 - |2h - 1|^beta; nothing in the first fifth."""
    warm = 0.2
    if progress < warm:
        return 0.0
    beta = 20 + (2 - 20) * (progress - warm) / (1 - warm)
    return (1 - (2 * up - 1).abs() ** beta).mean()


def _tensors(rows: Rows) -> list[torch.Tensor]:
    """Groups first, as a batched product wants them."""
    import torch

    arrays = (rows.inputs, rows.offset, rows.target)
    return [torch.from_numpy(np.ascontiguousarray(np.swapaxes(a, 0, 1))) for a in arrays]
