"""Sums of parallel convolutions as one convolution: the algebra of re-parameterisation.

RepVGG, MobileOne, RepLKNet and their kin train y = BN(K3 * x) + BN(K1 * x) + BN(x) and deploy one
kernel. Every branch is linear in x, so with t = gamma / sqrt(var + eps)

    BN(K * x):  weight t K     bias beta + t (b - mean)          x itself: the 1x1 identity matrix

and kernels of one stride add up tap by tap, wherever their taps read the same input position. The
sum is formed in float64. (Ding et al., RepVGG, CVPR 2021; Vasu et al., MobileOne, CVPR 2023.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from calibration.graph.affine import Affine, Doubles
from calibration.graph.conv import ConvGeometry

UNCHANGED = Affine.scale(1.0)


@dataclass(frozen=True)
class Branch:
    """One convolution: float64 ``[out, in/groups, *kernel]``, bias ``[out]``, geometry."""

    weight: Doubles
    bias: Doubles
    geometry: ConvGeometry

    @property
    def channels_in(self) -> int:
        return int(self.weight.shape[1]) * self.geometry.groups

    @property
    def channels_out(self) -> int:
        return int(self.weight.shape[0])

    def then(self, affine: Affine) -> Branch:
        """This convolution followed by ``affine`` on its output channels."""
        gain = np.broadcast_to(affine.gain, self.bias.shape)
        weight = self.weight * gain.reshape(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=weight, bias=gain * self.bias + affine.shift)

    def with_groups(self, groups: int) -> Branch:
        """The same convolution with fewer, larger groups, zeros filled in."""
        own = self.geometry.groups
        if own == groups:
            return self
        out, width, *kernel = self.weight.shape
        merged = own // groups  # groups that become one
        weight = np.zeros((out, width * merged, *kernel))
        for group in range(own):
            rows = slice(group * out // own, (group + 1) * out // own)
            column = group % merged * width
            weight[rows, column : column + width] = self.weight[rows]
        return replace(self, weight=weight, geometry=replace(self.geometry, groups=groups))


@dataclass(frozen=True)
class Term:
    """One summand: a convolution of the source, or the source itself, followed by ``affine``."""

    convolution: Branch | None
    affine: Affine = UNCHANGED

    def then(self, affine: Affine) -> Term:
        return replace(self, affine=self.affine.then(affine))


Source = TypeVar("Source")


def after_sum(terms: list[tuple[Source, Term]], affine: Affine) -> list[tuple[Source, Term]]:
    """``affine`` of a sum, as a sum: every term takes the gain, the first one the shift."""
    (source, first), *others = terms
    gain = Affine.scale(affine.gain)
    return [(source, first.then(affine)), *((s, t.then(gain)) for s, t in others)]


def merge(terms: Sequence[Term]) -> Branch | str:
    """The one convolution that equals the sum of ``terms``, or the reason why there is none.

    A kernel that would hold more weights than its parts together (a depthwise 3x3 beside a dense
    1x1) is refused: it would be slower than what it replaces.
    """
    convolutions = [t.convolution for t in terms if t.convolution is not None]
    if not convolutions:
        return "no convolution among the branches"
    model = convolutions[0]
    branches = [_as_branch(term, model) for term in terms]
    for reason in _mismatches(branches):
        return reason
    groups = math.gcd(*(b.geometry.groups for b in branches))
    geometry = _common_geometry([b.geometry for b in branches], groups)
    if isinstance(geometry, str):
        return geometry
    weight = np.zeros((model.channels_out, model.channels_in // groups, *geometry.kernel))
    if weight.size > sum(c.weight.size for c in convolutions):
        return "one kernel would hold more weights than the branches do"
    for branch in branches:
        _add_taps(weight, geometry, branch.with_groups(groups))
    bias = np.sum([b.bias for b in branches], axis=0)
    return Branch(weight, bias, geometry)


def _as_branch(term: Term, model: Branch) -> Branch:
    """A term as a convolution; the source itself becomes a 1x1 identity, a channel a group."""
    if term.convolution is not None:
        return term.convolution.then(term.affine)
    axes = len(model.geometry.kernel)
    ones, zeros = (1,) * axes, (0,) * axes
    geometry = ConvGeometry(ones, ones, ones, zeros, zeros, model.channels_in)
    weight = np.ones((model.channels_in, 1, *ones))
    return Branch(weight, np.zeros(model.channels_in), geometry).then(term.affine)


def _mismatches(branches: Sequence[Branch]) -> list[str]:
    first = branches[0]
    found = []
    for other in branches[1:]:
        if other.weight.ndim != first.weight.ndim:
            found.append("the branches differ in the number of axes")
        elif (other.channels_in, other.channels_out) != (first.channels_in, first.channels_out):
            found.append("the branches differ in channels")
        elif other.geometry.strides != first.geometry.strides:
            found.append("the branches differ in stride")
        elif other.geometry.shrinkage != first.geometry.shrinkage:
            found.append("the branches differ in padding")
    return found


def _common_geometry(parts: Sequence[ConvGeometry], groups: int) -> ConvGeometry | str:
    """The smallest kernel with a tap wherever a part has one."""
    kernel, dilations, begin, end = [], [], [], []
    for axis, shrinkage in enumerate(parts[0].shrinkage):
        taps = sorted({offset for part in parts for offset in part.offsets(axis)})
        step = math.gcd(*(tap - taps[0] for tap in taps)) or 1
        reach = taps[-1] - taps[0]
        kernel.append(reach // step + 1)
        dilations.append(step)
        begin.append(-taps[0])
        end.append(reach + taps[0] - shrinkage)
    if min(*begin, *end) < 0:
        return "the branches read different parts of the input"
    strides = parts[0].strides
    return ConvGeometry(tuple(kernel), strides, tuple(dilations), tuple(begin), tuple(end), groups)


def _add_taps(weight: Doubles, geometry: ConvGeometry, branch: Branch) -> None:
    """Add a branch's taps to ``weight`` where they read the same positions."""
    indices = []
    for axis, step in enumerate(geometry.dilations):
        first = geometry.offsets(axis)[0]
        indices.append([(tap - first) // step for tap in branch.geometry.offsets(axis)])
    weight[np.ix_(range(len(weight)), range(weight.shape[1]), *indices)] += branch.weight
