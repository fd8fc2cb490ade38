"""Reading a ``report.json``: a wrong key is named with its place and its nearest known name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from deploy.report.schema import SCHEMA, Report
from exporters.errors import UserError, did_you_mean

_PROBLEMS_SHOWN = 5


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
        problems = [_problem(detail) for detail in error.errors()]
        shown = "; ".join(problems[:_PROBLEMS_SHOWN])
        more = len(problems) - _PROBLEMS_SHOWN
        raise UserError(
            f"{source} does not follow {SCHEMA}: {shown}"
            + (f"; and {more} more" if more > 0 else ""),
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


def _problem(detail: ErrorDetails) -> str:
    place = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {place} ({_nearest(detail['loc'])})"
    if detail["type"] == "missing":
        return f"missing key {place}"
    return f"{place}: {detail['msg']}"


def _place(loc: tuple[int | str, ...]) -> str:
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.lstrip(".") or "the report"


def _nearest(loc: tuple[int | str, ...]) -> str:
    """The known keys nearest to an unknown one, found by walking the models along ``loc``."""
    model: type[BaseModel] = Report
    for step in loc[:-1]:
        if isinstance(step, str):
            model = _model_of(model, step) or model
    known = [field.alias or name for name, field in model.model_fields.items()]
    return did_you_mean(str(loc[-1]), known)


def _model_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model that the values of ``model``'s ``key`` have, through lists and optionals."""
    field = model.model_fields.get(key)
    pending = [field.annotation] if field is not None else []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending.extend(getattr(annotation, "__args__", ()))
    return None
