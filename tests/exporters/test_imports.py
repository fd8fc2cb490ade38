from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "onnx_ir", "PIL", "safetensors")


@pytest.mark.parametrize(
    "module",
    [
        "exporters",
        "exporters.variants",
        "exporters.modelfile",
        "exporters.flashocc",
        "exporters.flashocc.preprocess",
        "exporters.checkpoints",
        "exporters.trace",
    ],
)
def test_importing_is_cheap(module: str) -> None:
    code = f"import {module}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    import exporters

    for name in exporters.__all__:
        assert getattr(exporters, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = exporters.absent
