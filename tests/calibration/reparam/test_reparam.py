"""Branch fusion against eager torch and ONNX Runtime, from ONNX graphs and from torch modules."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from calibration.graph.conv import ConvGeometry
from calibration.reparam.branches import Branch, Term, merge
from calibration.reparam.onnx_graphs import fuse_reparam
from calibration.reparam.torch_modules import fuse_reparam_module
from exporters.errors import UserError

Array = NDArray[Any]

TOO_LARGE = "one kernel would hold more weights than the branches do"

# ---------------------------------------------------------------- the algebra


def apply(branch: Branch, x: Array) -> Array:
    """float64 2-D convolution by torch; zero pads, so asymmetric ones are explicit."""
    g = branch.geometry
    (top, left), (bottom, right) = g.pads_begin, g.pads_end
    padded = torch.nn.functional.pad(torch.from_numpy(x), (left, right, top, bottom))
    return torch.nn.functional.conv2d(
        padded,
        torch.from_numpy(branch.weight),
        torch.from_numpy(branch.bias),
        g.strides,
        0,
        g.dilations,
        g.groups,
    ).numpy()


def branch(
    rng: np.random.Generator, kernel: int, dilation: int, shrink: int, stride: int, groups: int
) -> Branch:
    """A branch of 4 channels; all of one ``shrink`` give outputs of one size."""
    total = dilation * (kernel - 1) - shrink
    begin = (total // 2, total // 2)
    end = (total - total // 2,) * 2
    geometry = ConvGeometry((kernel,) * 2, (stride,) * 2, (dilation,) * 2, begin, end, groups)
    weight = rng.normal(size=(4, 4 // groups, kernel, kernel))
    return Branch(weight, rng.normal(size=4), geometry)


shapes = st.lists(
    st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4])),
    min_size=1,
    max_size=4,
)


@given(shapes, st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_merged_equals_the_sum(
    parts: list[tuple[int, int, int]], stride: int, identity: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stride = 1 if identity else stride
    branches = [branch(rng, k, d, 0, stride, g) for k, d, g in parts]
    terms = [Term(b) for b in branches] + [Term(None)] * identity
    merged = merge(terms)
    if isinstance(merged, str):
        assert merged == TOO_LARGE
        return
    x = rng.normal(size=(2, 4, 11, 12))
    truth = sum((apply(b, x) for b in branches), x if identity else np.zeros(()))
    assert np.abs(apply(merged, x) - truth).max() < 1e-11


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ((3, 1, 0, 1, 1), (3, 1, 0, 2, 1), "the branches differ in stride"),
        ((3, 1, 0, 1, 1), (3, 1, 2, 1, 1), "the branches differ in padding"),
        ((3, 1, 0, 1, 4), (1, 1, 0, 1, 1), TOO_LARGE),
        ((3, 1, 0, 1, 1), (3, 2, 0, 1, 1), TOO_LARGE),
    ],
)
def test_what_does_not_merge(a: tuple[int, ...], b: tuple[int, ...], reason: str) -> None:
    rng = np.random.default_rng(0)
    assert merge([Term(branch(rng, *a)), Term(branch(rng, *b))]) == reason


def test_nothing_to_merge() -> None:
    assert merge([Term(None), Term(None)]) == "no convolution among the branches"


# ---------------------------------------------------------------- blocks


def conv_bn(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(o))


class RepVgg(nn.Module):
    """y = ReLU(BN(K3 x) + BN(K1 x) + BN(x))."""

    def __init__(self, i: int, o: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.dense = conv_bn(i, o, 3, stride, groups)
        self.point = conv_bn(i, o, 1, stride, groups)
        self.identity = nn.BatchNorm2d(i) if i == o and stride == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = 0 if self.identity is None else self.identity(x)
        return torch.relu(self.dense(x) + self.point(x) + identity)


class MobileOne(nn.Module):
    """Several kxk branches, a 1x1 and an identity; depthwise."""

    def __init__(self, channels: int, branches: int = 3) -> None:
        super().__init__()
        self.skip = nn.BatchNorm2d(channels)
        self.scale = conv_bn(channels, channels, 1, groups=channels)
        self.convs = nn.ModuleList(
            conv_bn(channels, channels, 3, groups=channels) for _ in range(branches)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: Any = self.scale(x) + self.skip(x)
        for index in range(len(self.convs)):
            out += self.convs[index](x)
        return torch.relu(out)


class RepLk(nn.Module):
    """A large depthwise kernel beside a small one, inside a residual block of 1x1 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = conv_bn(channels, channels, 1)
        self.large = conv_bn(channels, channels, 13, groups=channels)
        self.small = conv_bn(channels, channels, 5, groups=channels)
        self.leave = conv_bn(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.enter(x))
        out = self.large(y)
        out += self.small(y)
        return x + self.leave(torch.relu(out))


class RepMixer(nn.Module):
    """x + scale * (BN(conv(x)) - BN(x)), as in FastViT."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mixer = conv_bn(channels, channels, 3, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.layer_scale = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer_scale * (self.mixer(x) - self.norm(x))


def trained(module: nn.Module) -> nn.Module:
    """In inference mode, with batch norms as uneven as after training."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.2, 2.0)
            nn.init.normal_(m.bias)
            m.running_mean.normal_()  # type: ignore[union-attr]
            m.running_var.uniform_(0.05, 4.0)  # type: ignore[union-attr]
    return module.eval()


BLOCKS = {
    "repvgg": (lambda: nn.Sequential(RepVgg(4, 8, 2), RepVgg(8, 8)), 2),
    "repvgg groups": (lambda: RepVgg(4, 4, groups=2), 1),
    "mobileone": (lambda: MobileOne(4), 1),
    "replk": (lambda: RepLk(4), 1),
    "repmixer": (lambda: RepMixer(4), 1),
}


def exported(module: nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """ONNX with its branches and batch norms as they are."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export warns about itself
        program = torch.onnx.export(module, (x,), input_names=["x"], dynamo=True, verbose=False)
    assert program is not None
    program.save(buffer)
    return onnx.ModelProto.FromString(buffer.getvalue())


def run(model: onnx.ModelProto, x: torch.Tensor) -> Array:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


def count(model: onnx.ModelProto, op_type: str) -> int:
    return sum(node.op_type == op_type for node in model.graph.node)


@pytest.mark.parametrize("name", BLOCKS)
def test_onnx_blocks_equal_torch(name: str) -> None:
    make, sums = BLOCKS[name]
    module = trained(make())
    x = torch.randn(2, 4, 17, 18)
    original = exported(module, x)
    fused, fusions = fuse_reparam(original)
    onnx.checker.check_model(fused, full_check=True)
    assert len(fusions.blocks) == sums
    assert count(fused, "BatchNormalization") == 0
    assert count(fused, "Add") == (1 if name == "replk" else 0)
    with torch.no_grad():
        truth = module(x).numpy()
    assert np.abs(run(fused, x) - truth).max() <= 1e-5 * np.abs(truth).max()
    assert all(b.difference < 1e-5 for b in fusions.blocks)


@pytest.mark.parametrize("name", BLOCKS)
def test_torch_blocks_equal_the_original(name: str) -> None:
    make, sums = BLOCKS[name]
    module = trained(make()).double()
    x = torch.randn(2, 4, 17, 18, dtype=torch.float64)
    fused, fusions = fuse_reparam_module(module, x)
    with torch.no_grad():
        assert (fused(x) - module(x)).abs().max() < 1e-12 * module(x).abs().max() * 100
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    convolutions = [m for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == sums + 2 * (name == "replk")
    assert any(isinstance(m, nn.BatchNorm2d) for m in module.modules())  # the given one is intact
    assert all(b.difference < 1e-12 for b in fusions.blocks)


def test_names_say_where_a_block_was() -> None:
    module = trained(nn.Sequential(RepVgg(4, 8, 2), RepVgg(8, 8)))
    fused, fusions = fuse_reparam_module(module, torch.randn(1, 4, 8, 8))
    assert [b.node for b in fusions.blocks] == ["0.reparam_conv", "1.reparam_conv"]
    assert set(dict(fused.named_parameters())) == {
        f"{i}.reparam_conv.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    }
    model = exported(module, torch.randn(1, 4, 8, 8))
    model.metadata_props.add(key="k", value="v")
    new, fusions = fuse_reparam(model)
    names = [n.name for n in new.graph.node if n.op_type == "Conv"]
    assert [b.node for b in fusions.blocks] == names
    assert set(names) <= {n.name for n in model.graph.node}
    assert ("k", "v") in {(p.key, p.value) for p in new.metadata_props}
    assert all(len(b.parts) >= 3 for b in fusions.blocks)


def test_a_residual_across_a_nonlinearity_stays() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv_bn(4, 4, 3), conv_bn(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.b(torch.relu(self.a(x)))

    module, x = trained(Residual()), torch.randn(1, 4, 8, 8)
    fused, fusions = fuse_reparam(exported(module, x))
    assert not fusions.blocks
    assert count(fused, "Add") == 1
    module_fused, _ = fuse_reparam_module(module, x)
    with torch.no_grad():
        assert (module_fused(x) - module(x)).abs().max() < 1e-5


def test_a_branch_that_others_read_stays() -> None:
    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a = self.a(x)
            return a + self.b(x), a

    module, x = Tapped().eval(), torch.randn(1, 4, 8, 8)
    assert not fuse_reparam(exported(module, x))[1].blocks
    assert not fuse_reparam_module(module, x)[1].blocks


def test_a_batch_norm_after_the_sum_is_folded_too() -> None:
    class After(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.a(x) + self.b(x) * 0.5)

    module, x = trained(After()), torch.randn(1, 4, 8, 8)
    fused, fusions = fuse_reparam(exported(module, x))
    assert [n.op_type for n in fused.graph.node] == ["Conv"]
    with torch.no_grad():
        assert np.abs(run(fused, x) - module(x).numpy()).max() < 1e-5
        module_fused, _ = fuse_reparam_module(module, x)
        assert (module_fused(x) - module(x)).abs().max() < 1e-5
    assert len(fusions.blocks) == 1


def test_what_does_not_fuse_is_listed_with_the_reason() -> None:
    class Unequal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
            self.dense = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.depthwise(x) + self.dense(x)

    module, x = Unequal().eval(), torch.randn(1, 4, 8, 8)
    for fusions in (fuse_reparam(exported(module, x))[1], fuse_reparam_module(module, x)[1]):
        assert not fusions.blocks
        (skipped,) = fusions.skipped
        assert skipped.reason == TOO_LARGE


def test_an_untraceable_module_gets_the_way_out() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"torch.fx cannot trace Branching.*Export it to ONNX"):
        fuse_reparam_module(Branching(), torch.ones(1))
