"""``edgeport quantize --report``: one page, or JSON, about one quantized file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.console import dump_json
from deploy.report.quantization_schema import SCHEMA, Quantization
from deploy.strict import explain
from exporters.errors import MissingRequirementError, UserError
from exporters.files import require_writable, write_text

_SUFFIXES = (".html", ".json")


def check_report_path(path: Path, *, overwrite: bool = False) -> None:
    """Fail before the work starts if no report could be written to ``path``.

    Raises:
        UserError: neither ``.html`` nor ``.json``, or the file exists.
        MissingRequirementError: jinja2 is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f"a report is .html or .json, not {path.name!r}", fix=f"Write --report {path.stem}.html"
        )
    require_writable(path, overwrite=overwrite)
    if path.suffix == ".html" and importlib.util.find_spec("jinja2") is None:
        raise MissingRequirementError(
            "an HTML report needs jinja2, which is not installed",
            fix="pip install 'edgeport[report]', or write a .json",
        )


def write_quantization_report(
    report: Mapping[str, Any], path: Path | str, *, overwrite: bool = False
) -> Path:
    """Write ``report`` as JSON, or the page that is drawn from it, by the ending of ``path``.

    Args:
        report: what ``calibration.quantize`` returned, with the ``path`` and ``sha256`` of the
            file where they are known; or ``edgeport.quantization`` of a model file.

    Raises:
        UserError: the path is no report's, it exists, or ``report`` is of another schema.
        MissingRequirementError: jinja2 is not installed.
    """
    path = Path(path)
    check_report_path(path, overwrite=overwrite)
    entry = parse_quantization(report)
    if path.suffix == ".json":
        text = dump_json(report) + "\n"
    else:
        from deploy.report.rendering import render_quantization

        text = render_quantization(entry)
    write_text(path, text, overwrite=overwrite)
    return path


def parse_quantization(report: Mapping[str, Any]) -> Quantization:
    """Check ``report`` against ``edgeport.quantization/2``.

    Raises:
        UserError: another schema, or a key that is missing or of the wrong type.
    """
    if report.get("schema") != SCHEMA:
        raise UserError(
            f"the report has schema {report.get('schema')!r}, this edgeport reads {SCHEMA!r}",
            fix="Quantize again with this edgeport",
        )
    try:
        return Quantization.model_validate(report)
    except ValidationError as error:
        raise UserError(
            f"the report does not follow {SCHEMA}: {explain(error, Quantization)}",
            fix="Quantize again with this edgeport",
        ) from error
