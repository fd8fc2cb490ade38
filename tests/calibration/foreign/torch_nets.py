"""Networks as torch users write them, exported by both of torch's exporters."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Example = tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]


def conv(c_in: int, c_out: int, kernel: int = 3, *, act: Any = nn.ReLU, **options: Any) -> Any:
    layers = [
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, act()) if act else nn.Sequential(*layers)


class ResNet(nn.Module):
    """Stem, identity block, projection block, pooled linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = conv(3, 8, stride=2), nn.MaxPool2d(3, 2, 1)
        self.a1, self.a2 = conv(8, 8), conv(8, 8, act=None)
        self.b1, self.b2 = conv(8, 16, stride=2), conv(16, 16, act=None)
        self.down, self.fc = conv(8, 16, 1, act=None, stride=2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = torch.relu(self.a2(self.a1(x)) + x)
        x = torch.relu(self.b2(self.b1(x)) + self.down(x))
        return self.fc(x.mean((2, 3)))


class MobileNet(nn.Module):
    """Inverted residual with squeeze-and-excite and HardSwish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2, act=nn.Hardswish)
        self.expand = conv(8, 16, 1, act=nn.Hardswish)
        self.dw = conv(16, 16, groups=16, act=nn.Hardswish)
        self.se1, self.se2 = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.project, self.head = conv(16, 8, 1, act=None), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.dw(self.expand(x))
        gate = F.hardsigmoid(self.se2(torch.relu(self.se1(F.adaptive_avg_pool2d(y, 1)))))
        x = x + self.project(y * gate)
        return self.head(F.hardswish(x).mean((2, 3)))


class UNet(nn.Module):
    """ConvTranspose and bilinear upsampling, skips by concatenation, SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (conv(i, o, act=nn.SiLU) for i, o in ((3, 8), (8, 16), (16, 16)))
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.d, self.e = conv(24, 8, act=nn.SiLU), conv(16, 8, act=nn.SiLU)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up(c), b[:, :16]], 1))
        up = F.interpolate(d, size=a.shape[2:], mode="bilinear", align_corners=False)
        return self.out(self.e(torch.cat([up, a], 1))).sigmoid()


class VisionTransformer(nn.Module):
    """Patches, one encoder layer with fused attention, class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.fc1, self.fc2, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        q, k, v = self.qkv(self.norm1(x)).reshape(x.shape[0], -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return self.head((x + self.fc2(F.gelu(self.fc1(self.norm2(x)))))[:, 0])


class Recogniser(nn.Module):
    """Convolutions, a bidirectional LSTM and a GRU over the columns, a linear layer a column."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8, stride=2), conv(8, 8, stride=(2, 1))
        self.lstm = nn.LSTM(8, 6, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(12, 6, batch_first=True)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.b(self.a(x)).amax(2).transpose(1, 2)
        return self.fc(self.gru(self.lstm(columns)[0])[0]).log_softmax(-1)


class Waves(nn.Module):
    """Dilated 1-D convolutions with weight norm and a state that is handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 8, 3, padding=1), nn.Conv1d(8, 8, 3, dilation=2, padding=2)
        self.c = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 4, 1))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.b(F.elu(self.a(x)))) + state
        return self.c(y).tanh(), y.mean(2, keepdim=True)


def _seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = kind().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return net


def _examples() -> dict[str, Callable[[], Example]]:
    image = torch.zeros(2, 3, 32, 32)
    batch = {0: "batch"}
    sizes = {0: "batch", 2: "height", 3: "width"}
    return {
        "resnet": lambda: (_seeded(ResNet), (image,), {"x": sizes}),
        "mobilenet": lambda: (_seeded(MobileNet), (image,), {"x": batch}),
        "unet": lambda: (_seeded(UNet), (image,), {}),
        "vit": lambda: (_seeded(VisionTransformer), (image,), {"x": batch}),
        "recogniser": lambda: (_seeded(Recogniser), (image,), {"x": {3: "width"}}),
        "waves": lambda: (
            _seeded(Waves),
            (torch.zeros(2, 2, 24), torch.zeros(2, 8, 1)),
            {"x": {2: "time"}},
        ),
    }


EXAMPLES = _examples()


def exported(name: str, *, dynamo: bool, opset: int | None = None) -> onnx.ModelProto:
    """One of `EXAMPLES` as torch writes it, with its free axes."""
    net, inputs, axes = EXAMPLES[name]()
    if dynamo and name == "recogniser":
        axes = {}  # torch 2.13 cannot export an LSTM with a free axis this way
    names = ["x", "state"][: len(inputs)]
    options: dict[str, Any] = {"dynamo": dynamo, "input_names": names, "opset_version": opset}
    if dynamo:
        shapes = [dict.fromkeys(axes.get(n, {}), torch.export.Dim.DYNAMIC) for n in names]
        options |= {"dynamic_shapes": tuple(shapes), "verbose": False}
    else:
        options |= {"dynamic_axes": axes}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn about their own insides
        torch.onnx.export(net, inputs, stream, **options)
    return onnx.load_from_string(stream.getvalue())
