"""Swin Transformer with mmdetection's parameter names (arXiv:2103.14030).

Attention within windows of 12x12 tokens; every other block moves the windows by half. Two details
are those of mmdetection and not of the first implementation: a map is padded to whole windows
*after* the normalisation, with zeros; and patches are merged in the order of ``nn.Unfold``, channel
by channel, so its weights differ in order from those of other implementations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exporters.stereo_flashocc.config import Swin

_BLOCKED = -100.0
"""Added to the attention between tokens that the moved windows bring together by wrapping."""


class SwinTransformer(nn.Module):
    """``[N, 3, H, W]`` to features of stride 4 (not normalised), 16 and 32; H and W of 32."""

    def __init__(self, config: Swin, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.width)
        self.stages = nn.ModuleList()
        height, width = (side // 4 for side in image_size)
        last = len(config.blocks) - 1
        for stage, (blocks, heads) in enumerate(zip(config.blocks, config.heads, strict=True)):
            size = (height >> stage, width >> stage)
            channels = config.widths[stage]
            self.stages.append(
                Stage(channels, blocks, heads, config.window, size, merge=stage < last)
            )
        self.norm2 = nn.LayerNorm(config.widths[-2])
        self.norm3 = nn.LayerNorm(config.widths[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self.patch_embed(x)
        features = []
        for stage in self.stages:
            here, tokens = stage(tokens)
            features.append(here)
        fine, coarse = self.norm2(features[-2]), self.norm3(features[-1])
        return _channels_first(features[0]), _channels_first(fine), _channels_first(coarse)


class PatchEmbed(nn.Module):
    """4x4 pixels to a token, ``[N, 3, H, W] -> [N, H / 4, W / 4, width]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.projection(x).permute(0, 2, 3, 1))
        return y


class Stage(nn.Module):
    """Blocks on ``[N, H, W, C]``; returns that, and what the next stage starts from."""

    def __init__(
        self,
        channels: int,
        blocks: int,
        heads: int,
        window: int,
        size: tuple[int, int],
        *,
        merge: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(channels, heads, window, size, moved=bool(index % 2)) for index in range(blocks)
        )
        self.downsample = PatchMerging(channels) if merge else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class PatchMerging(nn.Module):
    """``[N, H, W, C] -> [N, H / 2, W / 2, 2 C]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        patches = x.reshape(count, height // 2, 2, width // 2, 2, channels)
        patches = patches.permute(0, 1, 3, 5, 2, 4)  # channel first, then row and column
        y: Tensor = self.reduction(
            self.norm(patches.reshape(count, height // 2, width // 2, 4 * channels))
        )
        return y


class Block(nn.Module):
    """Attention and two linear layers, each around a shortcut."""

    def __init__(
        self, channels: int, heads: int, window: int, size: tuple[int, int], *, moved: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = ShiftWindowMSA(channels, heads, window, size, window // 2 if moved else 0)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.ffn(self.norm2(x))
        return y


class FFN(nn.Module):
    """Two linear layers with four times the channels between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU())
        self.layers = nn.Sequential(inner, nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class ShiftWindowMSA(nn.Module):
    """Attention within windows that are moved by ``shift`` tokens, on ``[N, H, W, C]``."""

    def __init__(
        self, channels: int, heads: int, window: int, size: tuple[int, int], shift: int
    ) -> None:
        super().__init__()
        self.window, self.shift, self.size = window, shift, size
        self.padded = tuple(-(-side // window) * window for side in size)
        self.w_msa = WindowMSA(channels, heads, window)
        mask = _mask(self.padded, window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (rows, columns), side = self.size, self.padded, self.window
        x = F.pad(x, (0, 0, 0, columns - width, 0, rows - height))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        count, channels = x.shape[0], x.shape[3]
        split = (count, rows // side, side, columns // side, side, channels)
        windows = x.reshape(split).permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, channels)
        seen = self.w_msa(windows, self.mask)
        grid = (count, rows // side, columns // side, side, side, channels)
        x = seen.reshape(grid).permute(0, 1, 3, 2, 4, 5).reshape(count, rows, columns, channels)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class WindowMSA(nn.Module):
    """Multi-head attention with a bias by relative position, ``[windows, tokens, C]``."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", relative_positions(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, channels = x.shape
        heads = (windows, tokens, 3, self.heads, channels // self.heads)
        query, key, value = self.qkv(x).reshape(heads).permute(2, 0, 3, 1, 4).unbind(0)
        attention = (query * self.scale) @ key.transpose(-2, -1)
        index = self.get_buffer("relative_position_index")
        bias = F.embedding(index, self.relative_position_bias_table).permute(2, 0, 1)
        attention = attention + bias
        if mask is not None:
            places = mask.shape[0]
            attention = attention.reshape(-1, places, self.heads, tokens, tokens)
            attention = (attention + mask[:, None]).reshape(-1, self.heads, tokens, tokens)
        seen = (self.softmax(attention) @ value).transpose(1, 2)
        y: Tensor = self.proj(seen.reshape(windows, tokens, channels))
        return y


def relative_positions(window: int) -> Tensor:
    """Row of the bias table for every pair of tokens, int64 ``[window^2, window^2]``."""
    side = torch.arange(window)
    places = torch.stack(torch.meshgrid(side, side, indexing="ij")).reshape(2, -1)
    rows, columns = places[:, :, None] - places[:, None] + window - 1
    index: Tensor = rows * (2 * window - 1) + columns
    return index


def _mask(size: tuple[int, ...], window: int, shift: int) -> Tensor:
    """``[windows, tokens, tokens]``: 0 within a region of the picture, ``_BLOCKED`` across."""
    regions = [
        (torch.arange(side) >= side - window).long() + (torch.arange(side) >= side - shift).long()
        for side in size
    ]
    region = 3 * regions[0][:, None] + regions[1]
    rows, columns = (side // window for side in size)
    windows = region.reshape(rows, window, columns, window).permute(0, 2, 1, 3)
    ids = windows.reshape(rows * columns, window * window)
    return (ids[:, :, None] != ids[:, None]).float() * _BLOCKED


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
