"""Olive's static quantization pass, through its workflow engine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from olive.data.registry import Registry
from olive.workflows import run
from peer_script import Feeds, main

SAMPLES: Feeds = []


class Dataset(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return len(SAMPLES)

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], int]:
        return {name: torch.from_numpy(array) for name, array in SAMPLES[index].items()}, 0


@Registry.register_dataset("peer_samples")
def peer_samples(**_options: Any) -> Dataset:
    return Dataset()


def minmax(model: Path, feeds: Feeds, output: Path) -> None:
    SAMPLES[:] = feeds
    with tempfile.TemporaryDirectory() as folder:
        run(
            {
                "input_model": {"type": "OnnxModel", "model_path": str(model)},
                "data_configs": [
                    {
                        "name": "peer_samples",
                        "type": "DummyDataContainer",
                        "load_dataset_config": {"type": "peer_samples"},
                        "dataloader_config": {"type": "no_auto_batch_dataloader"},
                    }
                ],
                "passes": {
                    "quantize": {
                        "type": "OnnxStaticQuantization",
                        "data_config": "peer_samples",
                        "calibrate_method": "MinMax",
                        "activation_type": "uint8",
                        "precision": "int8",
                        "per_channel": True,
                        "quant_format": "QDQ",
                    }
                },
                "output_dir": folder,
                "cache_dir": str(Path(folder) / "cache"),
                "evaluate_input_model": False,
            }
        )
        written = [p for p in Path(folder).rglob("*.onnx") if "cache" not in p.parts]
        shutil.copy(written[0], output)


main({"minmax": minmax})
