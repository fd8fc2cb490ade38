"""Reading a ``report.json``: a wrong key is named with its place and its nearest known name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.report.schema import SCHEMA, Report
from deploy.strict import explain
from exporters.errors import UserError


def parse_report(data: Any, source: str = "the report") -> Report:
    """Check ``data`` against the schema.

    Raises:
        UserError: another schema version, or keys that are unknown, missing or of the wrong type;
            the message names ``source`` and each place, like ``latency.cases[0].runtime``.
    """
    if not isinstance(data, Mapping) or "schema" not in data:
        raise UserError(
            f"{source} is no edgeport report: it has no key 'schema'",
            fix="Name the folder that `edgeport run` wrote",
        )
    if data["schema"] != SCHEMA:
        raise UserError(
            f"{source} has schema {data['schema']!r}, this edgeport reads {SCHEMA!r}",
            fix="Run `edgeport run` again, or use the edgeport that wrote it",
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"{source} does not follow {SCHEMA}: {explain(error, Report)}",
            fix="Run `edgeport run` again; if you wrote the file, correct these keys",
        ) from error


def load_report(path: Path) -> Report:
    """Read and check a ``report.json``.

    Raises:
        UserError: no such file, not JSON, or not of this schema.
    """
    if not path.is_file():
        raise UserError(
            f"no {path.name} in {path.parent}", fix="Write one with: edgeport run RECIPE"
        )
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not readable JSON: {error}",
            fix="It may be truncated; run `edgeport run` again",
        ) from error
    return parse_report(data, str(path))
