"""Plane-sweep stereo: how well does each depth explain the picture before? (arXiv:2209.10248).

A pixel at depth z of this picture is somewhere in the earlier picture of the same camera. With the
pixel as (x, y, 1) in the network's image and per camera a matrix H and a vector b::

    [a, b, c] = z H [x, y, 1] + b,    seen there at (a / c, b / c), behind the camera if c < 0.001
    cost[z]   = sum over channels |current[x, y] - earlier[a / c, b / c]|
    result    = softmax over z of -cost

Where the earlier feature was sampled outside its picture (its fourth channel from the end is 0)
the cost grows by 5. Sampling goes depth by depth in small groups: all at once would take 6 GB.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.flashocc.geometry import View

STRIDE = 4
"""Image pixels per pixel of the stereo feature."""

_GROUP = 4
_OUTSIDE = 5.0
_NEAREST = 1e-3


class CostVolume(nn.Module):
    """Features of this and of the earlier picture to ``[N, depth_bins, H / 4, W / 4]``."""

    def __init__(self, view: View) -> None:
        super().__init__()
        height, width = view.image_size
        x = torch.linspace(0, width - 1, width // STRIDE)
        y = torch.linspace(0, height - 1, height // STRIDE)[:, None]
        self.bins, self.size = view.depth_bins, (height // STRIDE, width // STRIDE)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)
        depth = torch.from_numpy(view.depth_values)[:, None, None]
        self.register_buffer("depth", depth, persistent=False)
        scale = torch.tensor([2.0 / (width - 1), 2.0 / (height - 1)])
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, current: Tensor, earlier: Tensor, motion: Tensor) -> Tensor:
        """Compare two features ``[N, C, H / 4, W / 4]``.

        Args:
            motion: float32 ``[N, 3, 4]``, H and b of ``stereo_motion``.
        """
        columns = motion[:, :, :, None, None]  # [N, 3, 4, 1, 1]
        x, y = self.get_buffer("x"), self.get_buffer("y")
        ray = columns[:, :, 0] * x + columns[:, :, 1] * y + columns[:, :, 2]  # [N, 3, h, w]
        costs = [
            self._cost(current, earlier, ray, motion[:, :, 3], start)
            for start in range(0, self.bins, _GROUP)
        ]
        return (-torch.cat(costs, dim=1)).softmax(1)

    def _cost(
        self, current: Tensor, earlier: Tensor, ray: Tensor, shift: Tensor, start: int
    ) -> Tensor:
        """Cost of some depths, ``[N, group, h, w]``."""
        depth = self.get_buffer("depth")[start : start + _GROUP]
        count, (height, width) = depth.shape[0], self.size
        a, b, c = (
            ray[:, axis, None] * depth + shift[:, axis, None, None, None] for axis in range(3)
        )
        ahead = c >= _NEAREST
        divisor = torch.where(ahead, c, 1.0)
        scale = self.get_buffer("scale")
        places = [
            torch.where(ahead, value / divisor * scale[axis] - 1.0, -2.0)
            for axis, value in enumerate((a, b))
        ]
        grid = torch.stack(places, dim=-1).reshape(-1, count * height, width, 2)
        sampled = F.grid_sample(earlier, grid, align_corners=True)
        sampled = sampled.reshape(-1, earlier.shape[1], count, height, width)
        cost = (current[:, :, None] - sampled).abs().sum(1)
        return cost + _OUTSIDE * (sampled[:, -4] == 0).to(torch.float32)
