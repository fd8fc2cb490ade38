"""What becomes of the numbers stage by stage: PyTorch, ONNX, 16 bits or INT8, engine, board.

Every row is a comparison that was made, or says why there is none. The last stage is the user's own
board; without one in the recipe it has no evidence, however good the stages before it are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

JSON = dict[str, Any]

NO_BOARD = "the recipe names no board"


def waterfall_of(export: JSON, verify: Sequence[JSON], boards: Sequence[JSON]) -> list[JSON]:
    """Rows of ``stage``, ``summary`` (metrics by name) and ``missing`` (empty where compared).

    Args:
        export: the report of the export; empty for a model that was taken as it is.
        verify: comparisons with FP32 on this machine.
        boards: comparisons on boards, or why there is none.
    """
    agreement = export.get("agreement")
    first = (
        _row("PyTorch to ONNX", _exported(agreement))
        if agreement
        else _row("PyTorch to ONNX", missing="the model file was taken as it is")
    )
    rows = [first, *(_row(f"FP32 to {one['name']}", one["report"]["summary"]) for one in verify)]
    for one in boards:
        stage = f"FP32 to {one['name']}"
        if one.get("missing"):
            rows.append(_row(stage, missing=one["missing"]))
        else:
            rows.append(_row(stage, one["report"]["summary"]))
    return rows if boards else [*rows, _row("FP32 to a board", missing=NO_BOARD)]


def _exported(agreement: JSON) -> JSON:
    return {"labels agreement": 1.0 - agreement["exceptions"] / max(agreement["labels"], 1)}


def _row(stage: str, summary: JSON | None = None, missing: str = "") -> JSON:
    return {"stage": stage, "summary": summary or {}, "missing": missing}
