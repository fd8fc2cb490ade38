"""esp-ppq, the fork of PPQ that still installs, for TensorRT's rules."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from esp_ppq import QuantizationSettingFactory, TargetPlatform
from esp_ppq.api import export_ppq_graph, quantize_onnx_model
from peer_script import Feeds, main


def tensorrt(model: Path, feeds: Feeds, output: Path, *, equalization: bool) -> None:
    if len(feeds[0]) != 1:
        raise ValueError("quantize_onnx_model takes one input")
    samples = [torch.from_numpy(next(iter(feed.values()))) for feed in feeds]
    setting = QuantizationSettingFactory.trt_setting()
    setting.equalization = equalization
    graph = quantize_onnx_model(
        str(model),
        calib_dataloader=samples,
        calib_steps=len(samples),
        input_shape=list(samples[0].shape),
        input_dtype=samples[0].dtype,
        platform=TargetPlatform.TRT_INT8,
        setting=setting,
        device="cpu",
    )
    # its exporter for TensorRT writes a JSON beside float weights; this one writes Q/DQ
    export_ppq_graph(graph, TargetPlatform.ONNXRUNTIME, str(output))


main(
    {
        "tensorrt": partial(tensorrt, equalization=False),
        "equalization": partial(tensorrt, equalization=True),
    }
)
