"""Memory: past BEV maps brought into the current ego frame (BEVDet4D, arXiv:2203.17054).

A BEV map is computed once, when its frame is the current one. Later the vehicle has moved, so the
map is sampled where its cells lie now. With T the transform from the current to the past ego frame,
of which only the plane counts, and A from cell indices to metres::

    A = [[step_x, 0, low_x], [0, step_y, low_y], [0, 0, 1]]        lower edges, no half cell
    [x', y', 1] = inverse(A) T A [x, y, 1],  past map sampled bilinearly at (x', y'), 0 outside

Where the scene is younger than the memory, the current map stands in for the missing ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.flashocc.geometry import Grid


class Memory(nn.Module):
    """Past maps, where they are needed: ``[1, C, ny, nx]`` each, in the current ego frame."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("x", torch.arange(float(grid.nx))[:, None], persistent=False)
        self.register_buffer("y", torch.arange(float(grid.ny))[:, None, None], persistent=False)
        scale = torch.tensor([2.0 / (grid.nx - 1), 2.0 / (grid.ny - 1)])
        self.register_buffer("scale", scale, persistent=False)

    def forward(
        self, current: Tensor, history: Sequence[Tensor], motion: Tensor, length: Tensor
    ) -> list[Tensor]:
        """Warp every map of ``history``.

        Args:
            current: map of this frame, ``[1, C, ny, nx]``.
            history: maps of past frames in their own ego frames, the latest first.
            motion: float32 ``[len(history), 2, 3]`` of ``ports.cell_motion``.
            length: int32 ``[1]``, how many past frames the scene has.
        """
        # products and sums one by one: a matrix product in TF32 would shift cells
        columns = motion.permute(0, 2, 1)[:, :, None, None]  # [n, 3, 1, 1, 2]
        cells = columns[:, 0] * self.get_buffer("x") + columns[:, 1] * self.get_buffer("y")
        places = (cells + columns[:, 2]) * self.get_buffer("scale") - 1.0
        warped = [
            F.grid_sample(past, places[index : index + 1], align_corners=True)
            for index, past in enumerate(history)
        ]
        return stand_in(current, warped, length)


def stand_in(current: Tensor, history: Sequence[Tensor], length: Tensor) -> list[Tensor]:
    """``history`` with the current map in place of what is older than the scene."""
    return [torch.where(length >= age, past, current) for age, past in enumerate(history, start=1)]
