"""BEV encoder: three stages of two basic blocks, each stage halving the map."""

from __future__ import annotations

from torch import Tensor, nn

from exporters.flashocc.layers import BasicBlock


class CustomResNet(nn.Module):
    """``[1, inputs, ny, nx]`` to the stages at stride 2 and 8; the one between feeds the last."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for width in widths:
            self.layers.append(
                nn.Sequential(BasicBlock(inputs, width, 2), BasicBlock(width, width))
            )
            inputs = width

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        stages = []
        for layer in self.layers:
            x = layer(x)
            stages.append(x)
        return stages[0], stages[-1]
