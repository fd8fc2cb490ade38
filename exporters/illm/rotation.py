"""The same decoder in another basis: outliers spread over all channels, nearly for free.

    h' = h R,   W' = R^T diag(gain) W  of what reads the stream,   W' = W R  of what writes it
    v' = v S,   o' = S^T o             head by head
    q' = q H,   k' = k H / 2^p         behind the rotary embedding, at run time
    y' = y H / 2^p,   W' = H^T W       rows y before the down matrix W, at run time

R and S are orthogonal, and RMSNorm without a gain commutes with R, so the float network stays what
it is (QuaRot, arXiv:2404.00456; SpinQuant, arXiv:2405.16406; not in I-LLM). A few channels with
activations a hundred times larger than the rest decide the scale of a whole row; in another basis
there are none. R is a Hadamard matrix with random signs where there is one of that size, else a
random orthogonal one. H is what `exporters.ops.hadamard` multiplies by in exact sums and
differences; without it the rows before the down matrix, which no R can reach, decide the loss.

The gain of the last norm goes into the output matrix, which so is no longer the embedding: a tied
network becomes an untied one.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError, did_you_mean
from exporters.illm.config import Config
from exporters.illm.source import Array, Layer, Source, Texts
from exporters.ops.hadamard import block_hadamard

_PALEY = (12, 20)
"""Sizes q + 1, q a prime of the form 4 n + 3: Paley's construction gives a Hadamard matrix."""

_SEED = 0


BASES = ("own", "rotated")


def in_basis(source: Source, basis: str) -> Source:
    """``source`` in one of ``BASES``.

    Raises:
        UserError: there is no such basis.
    """
    if basis not in BASES:
        raise UserError(f"--basis is {basis!r}", fix=did_you_mean(basis, BASES))
    return RotatedSource(source) if basis == "rotated" else source


class RotatedSource:
    """``source`` in another basis; a `exporters.illm.source.Source` itself."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream = orthogonal(source.config.hidden, _SEED)
        self._head_basis = orthogonal(source.config.head_dim, _SEED + 1)

    @property
    def config(self) -> Config:
        return replace(self._source.config, tied=False, mixed=True)

    @property
    def texts(self) -> Texts:
        return self._source.texts

    @property
    def sha256(self) -> str:
        identity = f"{self._source.sha256} rotated and mixed {_SEED}"
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def licence(self) -> str | None:
        return self._source.licence

    @property
    def notes(self) -> tuple[str, ...]:
        return self._source.notes

    def embedding(self) -> Array:
        return _float(self._source.embedding() @ self._stream)

    def head(self) -> Array:
        return _float((self._source.head() * self._source.final_gain()) @ self._stream)

    def final_gain(self) -> Array:
        return np.ones(self.config.hidden, np.float32)

    def layer(self, index: int) -> Layer:
        layer, c = self._source.layer(index), self.config
        basis, ones = self._stream, np.ones(c.hidden, np.float32)
        qkv = basis.T @ (layer.attention_gain[:, None] * layer.qkv)
        bias = None if layer.qkv_bias is None else self._with_values(layer.qkv_bias[None])[0]
        heads = layer.output.reshape(c.heads, c.head_dim, c.hidden)
        output = (self._head_basis.T @ heads).reshape(layer.output.shape) @ basis
        return replace(
            layer,
            attention_gain=ones,
            qkv=self._with_values(qkv),
            qkv_bias=bias,
            output=_float(output),
            ffn_gain=ones,
            gate_up=_float(basis.T @ (layer.ffn_gain[:, None] * layer.gate_up)),
            down=_float(_unmixing(layer.down) @ basis),
        )

    def _with_values(self, columns: Array) -> Array:
        """``[n, q k v]`` with the values' heads in their other basis."""
        c = self.config
        values = columns[:, -c.kv_width :].reshape(-1, c.kv_heads, c.head_dim) @ self._head_basis
        return _float(
            np.concatenate([columns[:, : -c.kv_width], values.reshape(-1, c.kv_width)], 1)
        )


def _unmixing(down: Array) -> Array:
    """H^T W, block by block of the rows."""
    matrix = block_hadamard(len(down)).astype(np.float64)
    blocks = down.reshape(-1, len(matrix), down.shape[1])
    return np.asarray((matrix.T @ blocks).reshape(down.shape))


def orthogonal(size: int, seed: int) -> NDArray[np.float64]:
    """``[size, size]``: Hadamard with random signs, over sqrt(size); else random."""
    random = np.random.default_rng(seed)
    found = hadamard(size)
    if found is not None:
        signs = random.choice([-1.0, 1.0], size)
        return np.asarray(signs[:, None] * found / np.sqrt(size))
    q, r = np.linalg.qr(random.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r)))


def hadamard(size: int) -> NDArray[np.float64] | None:
    """Entries of 1 and -1, rows orthogonal; None where 2, 12 and 20 do not multiply to ``size``."""
    if size == 1:
        return np.ones((1, 1))
    factors = {2: np.array([[1.0, 1.0], [1.0, -1.0]])}
    factors.update({order: _paley(order - 1) for order in _PALEY})
    for order, factor in sorted(factors.items(), reverse=True):
        rest = hadamard(size // order) if size % order == 0 else None
        if rest is not None:
            return np.kron(factor, rest)
    return None


def _paley(q: int) -> NDArray[np.float64]:
    squares = {i * i % q for i in range(1, q)}
    residue = np.array([0.0] + [1.0 if i in squares else -1.0 for i in range(1, q)])
    jacobsthal = residue[(np.arange(q)[:, None] - np.arange(q)) % q]
    core = np.ones((q + 1, q + 1))
    core[1:, 0] = -1.0
    core[1:, 1:] = jacobsthal + np.eye(q)
    core[1:, 1:][np.diag_indices(q)] = 1.0
    return core


def _float(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)
