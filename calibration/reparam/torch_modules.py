"""Branch fusion on torch modules: the training-time module in, one with single convolutions out.

The module is traced with ``torch.fx``; sums and batch norms that are linear in one tensor become
one convolution, as in `onnx_graphs`. Works on any class whose forward fx can trace: blocks
in the style of RepVGG, MobileOne, RepLKNet and FastViT. What decides by tensor values cannot be
traced: export it and fuse the ONNX file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.graph.affine import Affine, Doubles
from calibration.graph.conv import ConvGeometry
from calibration.reparam.branches import UNCHANGED, Branch, Term, after_sum, merge
from calibration.reparam.onnx_graphs import TOLERANCE, FusedBlock, Fusions, NotFused
from exporters.errors import EdgeportError, UserError

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

    Terms = list[tuple[fx.Node, Term]]

_SUMS = {"add": 1.0, "iadd": 1.0, "add_": 1.0, "sub": -1.0, "isub": -1.0, "sub_": -1.0}
_PRODUCTS = frozenset({"mul", "imul", "mul_"})


def fuse_reparam_module(
    module: nn.Module, example: torch.Tensor | tuple[Any, ...]
) -> tuple[fx.GraphModule, Fusions]:
    """A copy of ``module``, in inference mode, whose parallel branches are single convolutions.

    Args:
        example: input, or tuple of inputs, on which the result is compared with ``module``.

    Returns:
        The fused module, and what was fused; ``difference`` of every block is that of the whole
        output over its largest value.

    Raises:
        UserError: fx cannot trace the module.
        EdgeportError: the result differs from ``module``, which is our bug.
    """
    import copy

    import torch
    from torch import fx
    from torch.fx.passes.shape_prop import ShapeProp

    inputs = example if isinstance(example, tuple) else (example,)
    original = copy.deepcopy(module).eval()
    try:
        traced = fx.symbolic_trace(copy.deepcopy(original))
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise UserError(
            f"torch.fx cannot trace {type(module).__name__}: {error}",
            fix="Export it to ONNX and fuse there: calibration.reparam.onnx_graphs.fuse_reparam",
        ) from error
    with torch.no_grad():
        ShapeProp(traced).propagate(*inputs)
        found, skipped = _fuse(traced)
        difference = _difference(original(*inputs), traced(*inputs))
    if not difference <= TOLERANCE:
        raise EdgeportError(
            f"fusing {type(module).__name__} changes its output by {difference:.1e} of the largest",
            fix="Please report this module; until then use it unfused",
        )
    blocks = tuple(FusedBlock(name, parts, difference) for name, parts in found)
    return traced, Fusions(blocks, tuple(skipped))


def _fuse(traced: fx.GraphModule) -> tuple[list[tuple[str, tuple[str, ...]]], list[NotFused]]:
    blocks: list[tuple[str, tuple[str, ...]]] = []
    skipped: list[NotFused] = []
    done: set[fx.Node] = set()
    # last first: an outer sum is tried before the sums inside it
    for node in reversed(list(traced.graph.nodes)):
        if node in done or not _may_be_root(traced, node):
            continue
        expression = _Expression(traced, node)
        sources = {source for source, _ in expression.terms}
        if len(sources) != 1 or not any(t.convolution for _, t in expression.terms):
            continue
        merged = merge([term for _, term in expression.terms])
        if isinstance(merged, Branch) and merged.geometry.pads_begin != merged.geometry.pads_end:
            merged = "torch convolutions pad both ends alike"
        if isinstance(merged, str):
            skipped.append(NotFused(node.name, merged))
            continue
        done |= expression.nodes
        parts = tuple(n.name for n in traced.graph.nodes if n in expression.nodes)
        blocks.append((_replace(traced, expression, sources.pop(), merged), parts))
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return blocks[::-1], skipped[::-1]


class _Expression:
    """As in `calibration.reparam.onnx_graphs`, over fx nodes.

    Attributes:
        convolutions: targets of the convolution modules, in the order they were met.
    """

    def __init__(self, traced: fx.GraphModule, root: fx.Node) -> None:
        self._traced = traced
        self.root = root
        self.nodes: set[fx.Node] = set()
        self.convolutions: list[str] = []
        self.terms = self._of_node(root) or []

    def _of_value(self, value: Any, affine: Affine = UNCHANGED) -> Terms:
        """Terms of an activation that goes through ``affine``."""
        found = self._of_node(value) if len(value.users) == 1 else None
        terms = [(value, Term(None))] if found is None else found
        return after_sum(terms, affine)

    def _of_node(self, node: fx.Node) -> Terms | None:
        """Terms of a node; None where it is not linear in this sense."""
        if node.op == "call_module":
            terms = self._of_module(node)
        elif node.op in ("call_function", "call_method") and len(node.args) == 2:
            terms = None if node.kwargs else self._of_arithmetic(node)
        else:
            terms = None
        if terms is not None:
            self.nodes.add(node)
        return terms

    def _of_module(self, node: fx.Node) -> Terms | None:
        from torch import nn

        module = self._traced.get_submodule(str(node.target))
        source: Any = node.args[0]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            if module.padding_mode != "zeros":
                return None
            self.convolutions.append(str(node.target))
            return [(source, Term(_branch_of(module)))]
        if isinstance(module, (nn.Identity, nn.Dropout)):
            return self._of_value(source)
        affine = _batch_norm_of(module)
        return None if affine is None else self._of_value(source, affine)

    def _of_arithmetic(self, node: fx.Node) -> Terms | None:
        name, (left, right) = _operation(node), node.args
        sign = _SUMS.get(name)
        if sign is None and name not in _PRODUCTS:
            return None
        if _is_activation(left) and _is_activation(right):
            if sign is None:
                return None
            return self._of_value(left) + self._of_value(right, Affine.scale(sign))
        data, other = (left, right) if _is_activation(left) else (right, left)
        number = self._per_channel(other, data) if _is_activation(data) else None
        if number is None or (sign == -1.0 and data is right):
            return None
        return self._of_value(
            data, Affine.scale(number) if sign is None else Affine.offset(sign * number)
        )

    def _per_channel(self, other: Any, data: Any) -> Doubles | None:
        """A Python number, or a parameter with one value for each channel (axis 1) of ``data``."""
        import torch
        from torch import fx

        if isinstance(other, (int, float)):
            return np.asarray(other, np.float64)
        if not isinstance(other, fx.Node) or other.op != "get_attr":
            return None
        owner, _, attribute = str(other.target).rpartition(".")
        value = getattr(self._traced.get_submodule(owner), attribute)
        if not isinstance(value, torch.Tensor):
            return None
        array = value.detach().double().cpu().numpy()
        rank = len(data.meta["tensor_meta"].shape)
        aligned = (1,) * (rank - array.ndim) + array.shape
        if array.size == 1:
            return np.asarray(array.reshape(()))
        if len(aligned) != rank or aligned[1] != array.size:
            return None
        return np.asarray(array.reshape(-1))


def _replace(
    traced: fx.GraphModule, expression: _Expression, source: fx.Node, merged: Branch
) -> str:
    """Put one convolution module in the place of the expression; returns its name."""
    like = traced.get_submodule(expression.convolutions[0])
    module = _module_of(merged, next(like.parameters()))
    target = name = _common_prefix(expression.convolutions) + "reparam_conv"
    known = {key for key, _ in traced.named_modules()}
    number = 0
    while target in known:
        number += 1
        target = f"{name}_{number}"
    traced.add_submodule(target, module)
    with traced.graph.inserting_after(expression.root):
        node = traced.graph.call_module(target, (source,))
    node.meta = dict(expression.root.meta)
    expression.root.replace_all_uses_with(node)
    for old in reversed(list(traced.graph.nodes)):
        if old in expression.nodes:
            traced.graph.erase_node(old)
    return target


def _may_be_root(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return _batch_norm_of(traced.get_submodule(str(node.target))) is not None
    return node.op in ("call_function", "call_method") and _operation(node) in _SUMS


def _operation(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__


def _is_activation(value: Any) -> bool:
    from torch import fx

    return isinstance(value, fx.Node) and value.op != "get_attr"


def _branch_of(module: Any) -> Branch:
    weight = module.weight.detach().double().cpu().numpy()
    bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().cpu()
    kernel, dilations = tuple(module.kernel_size), tuple(module.dilation)
    if module.padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        begin = tuple(t // 2 for t in total)
        end = tuple(t - b for t, b in zip(total, begin, strict=True))
    else:
        begin = end = (0,) * len(kernel) if module.padding == "valid" else tuple(module.padding)
    strides = tuple(module.stride)
    geometry = ConvGeometry(kernel, strides, dilations, begin, end, module.groups)
    return Branch(weight, np.asarray(bias, np.float64), geometry)


def _batch_norm_of(module: nn.Module) -> Affine | None:
    """What an inference batch norm does; None for another module, or one without statistics."""
    from torch import nn

    if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        return None
    if module.running_mean is None or module.running_var is None:
        return None
    mean, variance = (t.double().cpu().numpy() for t in (module.running_mean, module.running_var))
    gamma = np.ones_like(mean) if module.weight is None else module.weight.detach().double().cpu()
    beta = np.zeros_like(mean) if module.bias is None else module.bias.detach().double().cpu()
    return Affine.batch_norm(gamma, beta, mean, variance, epsilon=module.eps)


def _module_of(branch: Branch, like: torch.Tensor) -> nn.Module:
    import torch
    from torch import nn

    geometry = branch.geometry
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(geometry.kernel) - 1]
    convolution = kind(
        branch.channels_in,
        branch.channels_out,
        geometry.kernel,  # type: ignore[arg-type]
        geometry.strides,  # type: ignore[arg-type]
        geometry.pads_begin,  # type: ignore[arg-type]
        geometry.dilations,  # type: ignore[arg-type]
        geometry.groups,
    ).to(like)
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(branch.weight))
        assert convolution.bias is not None
        convolution.bias.copy_(torch.from_numpy(branch.bias))
    convolution.eval()
    return convolution


def _common_prefix(targets: list[str]) -> str:
    """Path, with its dot, of the innermost module that holds all ``targets``."""
    owners = [target.split(".")[:-1] for target in targets]
    shared = 0
    while all(len(o) > shared for o in owners) and len({o[shared] for o in owners}) == 1:
        shared += 1
    return "".join(part + "." for part in owners[0][:shared])


def _difference(before: Any, after: Any) -> float:
    """Largest difference of any output tensor over that tensor's largest value."""
    if not isinstance(before, (tuple, list)):
        before, after = [before], [after]
    pairs = zip(before, after, strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in pairs)
