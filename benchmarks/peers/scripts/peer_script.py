"""What every peer's script shares. Runs inside the peer's environment: standard library and numpy.

    python with_TOOL.py VARIANT MODEL SAMPLES OUTPUT REPORT COUNT

The report is a JSON file with ``quantize_s`` and ``samples``, or with ``error``.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Feeds = list[dict[str, np.ndarray[Any, Any]]]
Variant = Callable[[Path, Feeds, Path], None]
"""``variant(model, feeds, output)`` quantizes the file and writes ``output``."""


def read_feeds(model: Path, folder: Path, count: int) -> Feeds:
    """The samples of a folder, reduced to what the model takes; all where ``count`` is 0."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    inputs = {i.name for i in graph.input} - {i.name for i in graph.initializer}
    feeds = []
    for file in sorted(folder.glob("*.npz"))[: count or None]:
        with np.load(file) as archive:
            feeds.append({name: archive[name] for name in archive.files if name in inputs})
    if not feeds:
        raise FileNotFoundError(f"{folder} holds no .npz samples")
    return feeds


def main(variants: Mapping[str, Variant]) -> None:
    """Run the variant that the command line names and write the report."""
    name, model, samples, output, report, count = sys.argv[1:]
    told: dict[str, Any] = {}
    try:
        feeds = read_feeds(Path(model), Path(samples), int(count))
        told["samples"] = len(feeds)
        started = time.monotonic()
        variants[name](Path(model), feeds, Path(output))
        told["quantize_s"] = round(time.monotonic() - started, 2)
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip() or "no message").splitlines()[0]
        told["error"] = f"{type(error).__name__}: {first}"[:300]
    Path(report).write_text(json.dumps(told), encoding="utf-8")
    sys.exit(1 if "error" in told else 0)
