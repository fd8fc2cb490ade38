"""``edgeport inspect ENGINE --layers``: the audit of an engine's layers, and writing them down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploy.console import Output
from exporters.errors import UserError
from exporters.files import require_writable, write_text

if TYPE_CHECKING:
    from runtimes.tensorrt.audit import Audit

RUNS = 100


def audit_files(layers: Path, profile: Path | None, fp16_profile: Path | None) -> Audit:
    """Audit what trtexec or ``export_layers`` has written.

    Raises:
        UserError: a file is not what it should be, or they are of two engines.
    """
    from runtimes.tensorrt.audit import audit
    from runtimes.tensorrt.layers import read_layers, read_profile

    return audit(
        read_layers(layers),
        read_profile(profile) if profile else None,
        read_profile(fp16_profile) if fp16_profile else None,
    )


def export_layers(engine: Path, layers: Path | None, profile: Path | None) -> None:
    """Write the engine's layers and their times over 100 runs on random inputs; needs its GPU.

    Raises:
        UserError: no engine, or a file is there already.
        MissingRequirementError: no CUDA device.
    """
    from runtimes.feeding import inputs_of_file, random_feeds
    from runtimes.registry import get
    from runtimes.tensorrt.layers import dump_profile, profile_of
    from runtimes.tensorrt.session import TensorRTSession

    for path in filter(None, (layers, profile)):
        require_writable(path)
    session = get("tensorrt").load(engine)
    if not isinstance(session, TensorRTSession):
        raise UserError(f"{engine} is no TensorRT engine", fix="edgeport build MODEL.onnx")
    try:
        if layers is not None:
            write_text(layers, session.layer_information())
        if profile is not None:
            feeds = random_feeds(inputs_of_file(engine))
            write_text(profile, dump_profile(profile_of(session.time_layers(feeds, RUNS))))
    finally:
        session.close()


def say_audit(out: Output, found: Audit) -> None:
    total = "time not known" if found.total_ms is None else f"{found.total_ms:.3f} ms in one run"
    out.say(f"{found.layers} layers, {total}")
    rows = [
        (sort, share.layers, round(share.time_ms, 3), round(share.percent, 1))
        for sort, share in found.sorts.items()
    ]
    out.table("What the layers do", ["", "layers", "ms", "%"], rows)
    columns = ["first node", "layers", "ms", "conversions at its borders", "ms", "advice"]
    islands = [
        (
            (island.nodes or island.layers)[0],
            len(island.layers),
            island.time_ms,
            len(island.borders),
            island.border_ms,
            island.advice,
        )
        for island in found.islands
    ]
    out.table("INT8 islands", columns, islands)
    if found.costliest:
        out.table("The costliest conversions", ["layer", "", "ms"], list(found.costliest))
    for island in found.islands:
        if island.pays is False and island.nodes:
            options = " ".join(f"--keep-float {node}" for node in island.nodes)
            out.say(f"to keep it in float: edgeport quantize ... {options}")
    for note in found.notes:
        out.say(note)
    out.say("the schema is NVIDIA's documentation; how long INT8 may take is reckoned, not run")
