"""``edgeport models``: what can be exported."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.console import Output
from exporters.variants import Variant, variants


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List every variant that can be exported.

    For example:

        edgeport models --json

    Known limits: published numbers are those of the networks' authors, on their hardware; edgeport
    has not measured them.
    """
    out = Output(json=as_json)
    known = list(variants().values())
    rows = [(item.name, item.task, item.summary, _published(item)) for item in known]
    out.table("", ["variant", "task", "what it is", "published by its authors"], rows)
    out.say("next: edgeport export VARIANT -o model.onnx")
    out.result({"variants": known})


def _published(variant: Variant) -> str:
    """``mIoU 31.95 %, 197.6 FPS``: the two numbers that people compare."""
    numbers = variant.published
    parts = []
    if "miou_percent" in numbers:
        parts.append(f"mIoU {numbers['miou_percent']} %")
    if "nds_percent" in numbers:
        parts.append(f"mAP {numbers['map_percent']} %, NDS {numbers['nds_percent']} %")
    if "car_ap_r11_moderate" in numbers:
        parts.append(f"Car AP R11 moderate {numbers['car_ap_r11_moderate']}")
    if "fps_rtx3090_fp16" in numbers:
        parts.append(f"{numbers['fps_rtx3090_fp16']} FPS on RTX 3090 FP16")
    return ", ".join(parts)
