"""The camera's own picture as the network's picture, inside the graph: ``--input camera``.

Resize and crop of ``preprocess.resize_and_crop`` as matrix products (``exporters.bicubic``), equal
to it bit for bit. Only rows of the picture that the crop shows are resampled; rows above the
picture have coefficients 0 and come out black, as Pillow's crop makes them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from exporters.bicubic import Band, band, coefficients
from exporters.flashocc.geometry import View, image_augmentation


class CameraResize(nn.Module):
    """Planes of whole numbers 0..255, float32 ``[N, 3, *camera_size]`` to ``[N, 3, *image_size]``.

    Args:
        camera_size: height and width of the pictures.
        view: gives the size that the network sees.
    """

    def __init__(self, camera_size: tuple[int, int], view: View) -> None:
        super().__init__()
        height, width = view.image_size
        camera_height, camera_width = camera_size
        _, _, top = image_augmentation(camera_width, camera_height, view)
        columns = np.zeros((height, camera_height), np.int64)
        columns[max(-top, 0) :] = coefficients(camera_height, top + height)[max(top, 0) :]
        used = np.flatnonzero(columns.any(axis=0))
        self._rows = slice(int(used[0]), int(used[-1]) + 1)
        self.along_rows = Pass(band(coefficients(camera_width, width)), axis=-1)
        self.along_columns = Pass(band(columns[:, self._rows]), axis=-2)

    def forward(self, planes: Tensor) -> Tensor:
        resized: Tensor = self.along_columns(self.along_rows(planes[:, :, self._rows]))
        return resized


class Pass(nn.Module):
    """One pass along ``axis``, -1 or -2 of ``[..., rows, columns]``."""

    def __init__(self, taps: Band, axis: int) -> None:
        super().__init__()
        self._band = taps
        self._axis = axis
        for number, matrix in enumerate(taps.matrices):
            oriented = torch.from_numpy(matrix if axis == -1 else matrix.T.copy())
            self.register_buffer(f"block{number}", oriented, persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        taps, axis = self._band, self._axis
        products = [
            self._product(planes.narrow(axis, start, taps.window), self.get_buffer(f"block{n}"))
            for n, start in enumerate(taps.starts)
        ]
        joined = torch.cat(products, axis)
        shape = [len(products), taps.digits, taps.size]
        shape = [*joined.shape[:axis], *shape, *joined.shape[joined.ndim + axis + 1 :]]
        highest, *lower = joined.reshape(shape).unbind(axis - 1)
        carry = torch.zeros(())
        for digit in reversed(lower):
            carry = torch.floor((digit + carry) * 2.0**-taps.bits)
        shifted = (highest + (carry + taps.half)) * (1.0 / taps.divisor)
        pixels = torch.clamp(torch.floor(shifted), 0.0, 255.0)
        return pixels.flatten(axis - 1, axis)

    def _product(self, planes: Tensor, matrix: Tensor) -> Tensor:
        return planes @ matrix if self._axis == -1 else matrix @ planes
