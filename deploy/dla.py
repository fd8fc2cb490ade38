"""Writing what a DLA build needs: the plain network and its calibration cache, both or neither."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.files import written_atomically
from exporters.modelfile import ModelFile
from runtimes.tensorrt.dla import DlaScales, dla_scales


@dataclass(frozen=True)
class Written:
    """The two files, and the command that builds from them on the board."""

    cache: Path
    model: Path
    scales: DlaScales

    @property
    def build(self) -> str:
        return (
            f"trtexec --onnx={self.model.name} --calib={self.cache.name} --int8 --fp16 "
            "--useDLACore=0 --allowGPUFallback --saveEngine=m.dla.engine"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "edgeport.dla-scales/1",
            "cache": str(self.cache),
            "model": str(self.model),
            "build": self.build,
            **self.scales.to_json(),
        }


def write_dla_scales(
    model: Path | str, cache: Path | str, tensorrt: str = "10.3.0", *, overwrite: bool = False
) -> Written:
    """Write ``cache`` and, beside it with the suffix ``.onnx``, the network without Q/DQ.

    Raises:
        UserError: the model or the version is refused, or a file is there already.
    """
    import onnx

    from runtimes.inlining import inlined_file

    cache = Path(cache)
    network = cache.with_suffix(".onnx")
    with tempfile.TemporaryDirectory(prefix="edgeport-") as scratch:
        proto, _path = inlined_file(ModelFile(model), Path(scratch))
        plain, scales = dla_scales(proto, tensorrt)
    with (
        written_atomically(cache, overwrite=overwrite) as text,
        written_atomically(network, overwrite=overwrite) as graph,
    ):
        text.write_text(scales.cache(), encoding="utf-8")
        onnx.save(plain, graph)
    return Written(cache, network, scales)
