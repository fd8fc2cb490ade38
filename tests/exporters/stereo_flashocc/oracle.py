"""The cost volume and Swin's attention a second time, in float64, point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.flashocc.geometry import View, image_augmentation
from exporters.flashocc.rig import Camera

Array = NDArray[Any]


def cost_volume(
    now: Array, before: Array, cameras: list[tuple[Camera, Camera]], view: View
) -> Array:
    """``[N, D, h, w]``: undo the crop, back-project, move, project, crop again, look it up."""
    count, channels, rows, columns = now.shape
    height, width = view.image_size
    cost = np.zeros((count, view.depth_bins, rows, columns))
    for n, (camera, earlier) in enumerate(cameras):
        scale, left, top = image_augmentation(camera.width, camera.height, view)
        to_world = camera.ego2global @ camera.sensor2ego
        from_world = np.linalg.inv(earlier.ego2global @ earlier.sensor2ego)
        for d, v, u in np.ndindex(view.depth_bins, rows, columns):
            x, y = u * (width - 1) / (columns - 1), v * (height - 1) / (rows - 1)
            z = float(view.depth_values[d])
            pixel = np.array([(x + left) / scale * z, (y + top) / scale * z, z])
            point = np.append(np.linalg.inv(camera.intrinsics) @ pixel, 1.0)
            there = (from_world @ to_world @ point)[:3]
            seen = camera.intrinsics @ there
            value = np.zeros(channels)
            if seen[2] >= 1e-3:
                px = (seen[0] / seen[2] * scale - left) * (columns - 1) / (width - 1)
                py = (seen[1] / seen[2] * scale - top) * (rows - 1) / (height - 1)
                value = bilinear(before[n], py, px)
            cost[n, d, v, u] = np.abs(now[n, :, v, u] - value).sum() + 5.0 * (value[-4] == 0)
    weight = np.exp(-(cost - cost.min(axis=1, keepdims=True)))
    result: Array = weight / weight.sum(axis=1, keepdims=True)
    return result


def bilinear(image: Array, y: float, x: float) -> Array:
    """``[C]`` from ``[C, h, w]``; zeros outside."""
    value = np.zeros(len(image))
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return value


def attention(x: Array, state: dict[str, Array], window: int, shift: int, heads: int) -> Array:
    """Attention of every token of ``[H, W, C]`` to those of its window, by definition.

    Tokens see each other if they fall into the same window of the moved grid *and* were neighbours
    before the picture was wrapped. Padding tokens are there, with all-zero input.
    """
    height, width, channels = x.shape
    rows, columns = (-(-side // window) * window for side in (height, width))
    padded = np.zeros((rows, columns, channels))
    padded[:height, :width] = x
    qkv = padded @ state["qkv.weight"].T + state["qkv.bias"]
    query, key, value = qkv.reshape(rows, columns, 3, heads, -1).transpose(2, 0, 1, 3, 4)
    table = state["relative_position_bias_table"]
    out = np.zeros_like(padded)
    places: dict[Any, list[tuple[int, int, int, int]]] = {}
    for i, j in np.ndindex(rows, columns):
        a, b = (i - shift) % rows, (j - shift) % columns  # where it lies after the move
        region = tuple(
            0 if p < side - window else 1 if p < side - shift else 2
            for p, side in ((a, rows), (b, columns))
        )
        cell = (a // window, b // window, region if shift else 0)
        places.setdefault(cell, []).append((i, j, a % window, b % window))
    for members in places.values():
        for i, j, a, b in members:
            for head in range(heads):
                scores = np.array(
                    [
                        query[i, j, head] @ key[k, m, head] / np.sqrt(channels / heads)
                        + table[(a - c + window - 1) * (2 * window - 1) + b - d + window - 1, head]
                        for k, m, c, d in members
                    ]
                )
                weight = np.exp(scores - scores.max())
                weight /= weight.sum()
                size = channels // heads
                out[i, j, head * size : (head + 1) * size] = sum(
                    w * value[k, m, head] for w, (k, m, _, _) in zip(weight, members, strict=True)
                )
    result: Array = (out @ state["proj.weight"].T + state["proj.bias"])[:height, :width]
    return result
