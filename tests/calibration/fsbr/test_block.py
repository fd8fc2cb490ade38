"""The block that is learned on: the network itself without rounding, the decoder's numbers with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from calibration.fsbr.block import Block, rounded, run_block, smoothed
from calibration.fsbr.held import MATRICES, Held, held_errors
from calibration.fsbr.parameters import tensors
from calibration.fsbr.plan import PAIRS
from calibration.fsbr.rounding import Levels, round_columns, round_rows
from exporters.illm.config import Config
from exporters.illm.float_decoder import run_layer
from exporters.illm.learned import LearnedLayer
from exporters.illm.options import parse_bits
from exporters.illm.rotation import in_basis
from exporters.illm.rounding import Moments, round_against
from exporters.illm.smoothing import Factors, smooth
from exporters.illm.source import Layer, open_source
from exporters.illm.weights import LEVELS, quantize_columns
from exporters.ops.quantize import RowRounding

Folder = Callable[[str], Path]


def drawn(config: Config, *pairs: str) -> Factors:
    """Random factors within some e^±3 for ``pairs``."""
    random = np.random.default_rng(0)

    def factor(*shape: int) -> Any:
        return np.exp(random.normal(0, 1, shape)).astype(np.float32)

    key = factor(config.kv_heads, config.head_dim // 2)
    every = {
        "attention": factor(config.hidden),
        "value": factor(config.kv_heads, config.head_dim),
        "key": np.concatenate([key, key], 1),
        "ffn": factor(config.hidden),
        "down": factor(config.ffn),
        "gate": factor(config.ffn),
    }
    return Factors(**{pair: every[pair] for pair in pairs})


def as_tensors(factors: Factors) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(f) for name, f in vars(factors).items() if f is not None}


def opened(folder: Path) -> tuple[Layer, Config, torch.Tensor]:
    source = open_source(folder)
    random = np.random.default_rng(1)
    hidden = random.normal(0, 1, (12, source.config.hidden)).astype(np.float32)
    return source.layer(1), source.config, torch.from_numpy(hidden)


@pytest.mark.parametrize("kind", ["llama-tied", "llama-untied", "qwen2"])
@pytest.mark.parametrize("pairs", [(), *((pair,) for pair in PAIRS), PAIRS], ids=" ".join)
def test_smoothing_leaves_the_float_block_as_it_is(
    folder: Folder, kind: str, pairs: tuple[str, ...]
) -> None:
    """Grouped heads, a head for each, and biases; each pair alone and all at once."""
    layer, config, hidden = opened(folder(kind))
    right = run_layer(hidden, layer, config).numpy()
    block = smoothed(Block.of(layer), as_tensors(drawn(config, *pairs)), config)
    found = run_block(hidden, block, config, Levels()).numpy()
    # float32 products of 64 to 96 terms, in which factors of e^±3 stand
    np.testing.assert_allclose(found, right, atol=1e-4 * np.abs(right).max())


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2"])
def test_the_exporter_folds_what_was_learned_on(folder: Folder, kind: str) -> None:
    layer, config, _ = opened(folder(kind))
    factors = drawn(config, *PAIRS)
    found = smoothed(Block.of(layer), as_tensors(factors), config)
    right = smooth(layer, factors, config)
    for item in fields(Layer):
        one, other = getattr(found, item.name), getattr(right, item.name)
        assert (one is None) == (other is None)
        if one is not None:  # the order of three multiplications in float32
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-5)


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_columns_are_rounded_as_the_exporter_rounds_them(bits: int) -> None:
    random = np.random.default_rng(2)
    weight = random.standard_normal((64, 24)).astype(np.float32)
    clip = random.uniform(0.3, 1.0, 24).astype(np.float32)
    levels = LEVELS[bits]
    for share in (None, clip):
        found = round_columns(
            torch.from_numpy(weight), levels, None if share is None else torch.from_numpy(share)
        )
        right = quantize_columns(weight, bits, share).real
        # the exporter rounds scales to 15 bits of the largest: 127 steps of one are off by some
        # hundredths of a step, and a weight at a tie may go the other way
        step = np.abs(weight).max(0) / levels
        off = np.abs(found.numpy() - right) > 0.05 * step
        assert off.mean() < 0.01


def test_held_errors_are_what_gptq_does(folder: Folder) -> None:
    """At the factors they were taken at; elsewhere they grow with the column's scale."""
    layer, config, hidden = opened(folder("llama-tied"))
    levels = Levels(weights=7, activations=RowRounding.whole(7))
    held = held_errors(layer, [hidden], config, levels)
    moments = Moments(7)
    run_layer(hidden, layer, config, moments)
    block = Block.of(layer)
    for name in MATRICES:
        right = round_against(moments.by_matrix[name], getattr(layer, name), 4).real
        found = getattr(rounded(block, levels, held), name)
        # float32 of what is float64 there
        np.testing.assert_allclose(found.numpy(), right, atol=1e-5 * np.abs(right).max())
        twice = replace(block, **{name: 2 * getattr(block, name)})
        torch.testing.assert_close(getattr(rounded(twice, levels, held), name), 2 * found)


def test_rounding_has_the_gradient_of_the_identity() -> None:
    x = torch.tensor([[0.3, -1.0, 0.6]], requires_grad=True)
    y = round_rows(x, RowRounding.whole(7))
    assert torch.equal(y.detach() * 7, (x.detach() * 7).round())
    y[0, 0].backward()
    # round has gradient one, so x / s * s has: nothing through the peak but the rounding's residue
    assert x.grad is not None
    assert x.grad[0, 0] == 1
    assert x.grad[0, 1] == pytest.approx(-(2 / 7 - 0.3) / 1.0, abs=1e-6)
    weight = torch.tensor([[1.0], [0.5]])
    clip = torch.tensor([0.8], requires_grad=True)
    round_columns(weight, 7, clip)[0, 0].backward()
    assert clip.grad is not None
    assert clip.grad.item() == pytest.approx(1.0)  # the largest weight stands at clip x peak


def test_rows_are_cut_where_their_scales_end() -> None:
    x = torch.tensor([[0.9, -1.0, 0.4, 0.79]])
    y = round_rows(x, RowRounding(7, steps=35, parts=4))  # seven steps up to 0.8
    torch.testing.assert_close(y, torch.tensor([[0.8, -0.8, 0.8 * 4 / 7, 0.8]]))


def test_zero_rows_and_columns_stay_zero() -> None:
    zero = torch.zeros(3, 4)
    assert torch.equal(round_rows(zero, RowRounding.whole(7)), zero)
    assert torch.equal(round_rows(zero, RowRounding(7, steps=35, parts=4)), zero)
    assert torch.equal(round_columns(zero, 7), zero)


def test_rounding_is_where_the_levels_are(folder: Folder) -> None:
    layer, config, hidden = opened(folder("llama-tied"))
    block = Block.of(layer)
    exact = run_block(hidden, block, config, Levels())
    errors = [
        float((run_block(hidden, block, config, levels) - exact).square().mean())
        for levels in (
            Levels(activations=RowRounding.whole(127)),
            Levels(activations=RowRounding.whole(7)),
            Levels(swiglu=RowRounding.whole(7)),
        )
    ]
    assert 0 < errors[0] < errors[1] / 30  # 4 bits fewer: 16 times the step, 256 times the energy
    assert errors[2] > 0
    weights = rounded(block, Levels(weights=7), Held())
    assert not torch.equal(weights.qkv, block.qkv)
    assert torch.equal(rounded(block, Levels(), Held()).qkv, block.qkv)


class OneDevice(TorchDispatchMode):
    """Refuses what computes with tensors of two devices, as CUDA does; "meta" alone would not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves, _ = tree_flatten((args, kwargs or {}))
        found = {x.device.type for x in leaves if isinstance(x, torch.Tensor) and x.ndim}
        assert len(found) < 2 or "copy" in str(func), f"{func} of {found}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("basis", ["own", "rotated"])
def test_everything_stands_on_the_block_s_device(folder: Folder, basis: str) -> None:
    source = in_basis(open_source(folder("llama-tied")), basis)
    config = source.config
    levels = Levels.of(parse_bits("W4A4"), mixed=config.mixed)
    pairs = [pair for pair in PAIRS if pair != "down" or not config.mixed]
    learned = LearnedLayer(drawn(config, *pairs), {})
    with torch.device("meta"), OneDevice():
        block = smoothed(Block.of(source.layer(1)), tensors(learned)[0], config)
        hidden = torch.zeros(12, config.hidden)
        out = run_block(hidden, rounded(block, levels, Held()), config, levels)
    assert out.device.type == "meta"
    assert out.shape == (12, config.hidden)
