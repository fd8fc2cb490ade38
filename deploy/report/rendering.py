"""From ``report.json`` to one HTML file that needs nothing else, not even a network.

Style, scripts and data are inlined. A content security policy in the page forbids every request,
and allows exactly the one script whose SHA-256 it names: text from a report is escaped by jinja2,
and could not run even if it were not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from deploy.report import formats, palette
from deploy.report.headlines import headlines, interval_name, reference_case
from deploy.report.quantization_schema import LayerError, LeftNode, Quantization
from deploy.report.reading import load_report, parse_report
from deploy.report.schema import CameraImage, Report
from exporters.errors import MissingRequirementError, UserError
from exporters.files import require_writable, sha256_bytes, write_text

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_BYTES = 15_000_000
_PAGE = Path(__file__).parent / "page"
_STYLES = ("base.css", "parts.css", "scene.css", "print.css")
_SCRIPTS = (
    "page.js",
    "grids.js",
    "paint.js",
    "birdseye.js",
    "faces.js",
    "orbit.js",
    "voxels.js",
    "scene.js",
)
_MOUNTING = {
    place: rank
    for rank, place in enumerate(
        ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT"), start=1
    )
}
_SECTIONS = {
    "latency": ("Speed", "nothing was timed"),
    "agreement": ("Agreement", "nothing was compared"),
    "completions": ("Texts", ""),  # of language models alone
    "occupancy": ("Scene", "no sample was drawn"),
    "detection": ("Boxes", ""),  # who draws occupancy does not miss them
    "quantization": ("Quantization", "nothing was quantized"),
    "samples": ("Samples", "no sample set was recorded"),
    "model": ("Model files", "no model file is listed"),
    "engines": ("Engines", "no engine was built"),
    "stages": ("Pipeline", "no stage was recorded"),
    "environment": ("Environment", "the machine was not recorded"),
}


def render(report: dict[str, Any]) -> str:
    """The page of a ``report.json`` that is already loaded.

    Raises:
        UserError: the report does not follow its schema, or the page would exceed 15 MB.
        MissingRequirementError: jinja2 is not installed.
    """
    return _render(parse_report(report), source_sha256=None)


def write_report(bundle: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    """Draw ``bundle/report.json`` into ``bundle/report.html``, or into ``output``.

    Raises:
        UserError: no or a wrong report.json, the output exists, or the page would exceed 15 MB.
        MissingRequirementError: jinja2 is not installed, or the directory cannot be written.
    """
    source = bundle / "report.json" if bundle.is_dir() else bundle
    target = output if output is not None else source.parent / "report.html"
    report = load_report(source)
    require_writable(target, overwrite=overwrite)
    page = _render(report, source_sha256=sha256_bytes(source.read_bytes()))
    write_text(target, page, overwrite=overwrite)
    return target


def _render(report: Report, source_sha256: str | None) -> str:
    present = [key for key in _SECTIONS if getattr(report, key)]
    return _page(
        "template.html",
        _SCRIPTS,
        title=report.title,
        report=report,
        headlines=headlines(report),
        sections=[(key, _SECTIONS[key][0]) for key in present],
        missing=[one for key, one in _SECTIONS.items() if key not in present and one[1]],
        reference=reference_case(report.latency.cases) if report.latency else None,
        interval=interval_name(report),
        scenes=_scene_data(report),
        source_sha256=source_sha256,
    )


def render_quantization(entry: Quantization) -> str:
    """The page of one quantized file.

    Raises:
        MissingRequirementError: jinja2 is not installed.
    """
    name = Path(entry.path).name or "a quantized model file"
    sections = [("summary", "Quantization"), ("provenance", "Provenance")]
    return _page("quantization.html", _SCRIPTS[:1], title=name, entry=entry, sections=sections)


def _page(template: str, scripts: Sequence[str], **content: Any) -> str:
    script = "\n".join((_PAGE / "js" / name).read_text(encoding="utf-8") for name in scripts)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    style = "\n".join((_PAGE / "css" / name).read_text(encoding="utf-8") for name in _STYLES)
    hashed = _csp_hash(script)
    content |= {"style": style, "script": script, "script_hash": hashed}
    page = _environment().get_template(template).render(content)
    if len(page.encode()) > MAX_BYTES:
        raise UserError(
            f"the report would have {formats.size(len(page.encode()))}, "
            f"more than {formats.size(MAX_BYTES)}",
            fix="Keep fewer samples under 'occupancy', or smaller camera images",
        )
    return page


@lru_cache(maxsize=1)
def _environment() -> Environment:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingRequirementError(
            "the report needs jinja2, which is not installed", fix="pip install 'edgeport[report]'"
        ) from error
    # the charts need markupsafe, which comes with jinja2
    from deploy.report.charts import (
        boxes,
        dumbbells,
        latency,
        layers,
        paired,
        spread,
        texts,
        thumbnails,
    )

    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        "number",
        "plain",
        "signed_percent",
        "size",
        "parameters",
        "duration",
        "memory",
        "percent",
        "ordinal",
    )
    for name in (*filters, "signed", "share", "small", "title", "spelled", "moment", "plural"):
        environment.filters[name] = getattr(formats, name)
    environment.filters["metric"] = lambda value, name: formats.metric(name, value)
    environment.filters["sort_cameras"] = _as_mounted
    environment.globals.update(
        decimals=formats.decimals,
        latency_chart=latency,
        spread_chart=spread,
        layer_chart=layers,
        paired_chart=paired,
        dumbbell_chart=dumbbells,
        box_chart=boxes,
        thumbnail=thumbnails,
        gains=_gains,
        written_alike=texts.written_alike,
        is_exact=layers.is_exact,
        operator_rows=_operator_rows,
        quantized_rows=_quantized_rows,
        reasons=_reasons,
        metric_names=_metric_names,
        metric_of=formats.metric_of,
        class_colour=palette.class_colour,
    )
    return environment


def _csp_hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _scene_data(report: Report) -> str | None:
    """The label grids for the scripts, as JSON that cannot close its own script element."""
    if not report.occupancy:
        return None
    names = list(report.model.classes) if report.model else []
    for scene in report.occupancy:
        names += [f"class {index}" for index in range(len(names), scene.free + 1)]
    colours = palette.class_colours(names)
    data = {
        "classes": [
            {"name": name, "colour": colour} for name, colour in zip(names, colours, strict=True)
        ],
        "scenes": [scene.model_dump(exclude={"images"}) for scene in report.occupancy],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _as_mounted(images: list[CameraImage]) -> list[CameraImage]:
    """Front row above back row, left to right, where the cameras are named so; else as given."""
    places = [_MOUNTING.get(image.camera.upper().removeprefix("CAM_")) for image in images]
    if None in places:
        return images
    return [
        image
        for _, image in sorted(zip(places, images, strict=True), key=lambda pair: pair[0] or 0)
    ]


def _operator_rows(report: Report) -> list[tuple[str, list[int]]]:
    """Operator types with their count in each model file, the most frequent first."""
    files = report.model.files if report.model else []
    totals = Counter[str]()
    for file in files:
        totals |= Counter(file.operators)
    ordered = sorted(totals, key=lambda op: (-totals[op], op))
    return [(op, [file.operators.get(op, 0) for file in files]) for op in ordered]


def _quantized_rows(
    quantized: dict[str, int], total: dict[str, int]
) -> list[tuple[str, int, int | None]]:
    """Operator, quantized, and how many there are where the report says so; most first."""
    ops = sorted(
        {*quantized, *total}, key=lambda op: (-total.get(op, 0), -quantized.get(op, 0), op)
    )
    return [(op, quantized.get(op, 0), total.get(op)) for op in ops]


def _reasons(skipped: list[LeftNode]) -> list[tuple[str, int]]:
    return Counter(node.reason for node in skipped).most_common()


def _gains(layers: list[LayerError]) -> str:
    """What the layers won against the naive way, in one sentence."""
    both = [
        (layer.sqnr_before_db, layer.sqnr_after_db)
        for layer in layers
        if layer.sqnr_before_db is not None and layer.sqnr_after_db is not None
    ]
    if not both:
        return ""
    before, after = (median(values) for values in zip(*both, strict=True))
    better = sum(new > old for old, new in both)
    return (
        f"Median {formats.number(after, 1)} dB, naive {formats.number(before, 1)} dB; better in "
        f"{better} of {formats.plural(len(both), 'layer')}. Each has the errors of all before it."
    )


def _metric_names(rows: list[dict[str, Any]]) -> list[str]:
    """Scalar metrics that occur in any row, in the order in which they first occur."""
    return list(
        {
            name: None
            for row in rows
            for name, value in row.items()
            if not isinstance(value, (dict, list))
        }
    )
