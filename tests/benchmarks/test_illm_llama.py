"""llama.cpp's files of a checkpoint: the same network, quantized anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.illm_llama import KINDS, requantized
from exporters.illm.source import open_source
from tests.exporters.illm.checkpoints import make, write_gguf

gguf = pytest.importorskip("gguf", reason="the extra llm is not installed")
STEP = {"Q8_0": 1 / 127, "Q4_0": 1 / 8}  # of a block's largest weight


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_are_within_a_step_and_all_else_is_kept(tmp_path: Path, kind: str) -> None:
    write_gguf(make("llama-tied", tmp_path / "network"), tmp_path / "m.gguf")
    path = requantized(tmp_path / "m.gguf", kind, tmp_path / "q.gguf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "network", "q.gguf"]
    right, found = open_source(tmp_path / "m.gguf"), open_source(path)
    assert found.config == right.config
    assert found.texts == right.texts
    a, b = right.layer(1), found.layer(1)
    np.testing.assert_array_equal(b.ffn_gain, a.ffn_gain)
    assert 0 < np.abs(b.gate_up - a.gate_up).max() <= STEP[kind] * np.abs(a.gate_up).max()
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.ffn_up.weight"] == kind
    stamp = path.stat().st_mtime_ns
    assert requantized(tmp_path / "m.gguf", kind, path).stat().st_mtime_ns == stamp
