"""Where ONNX Runtime spends its time, by tensor of the file that it was given.

ONNX Runtime fuses and renames nodes before it runs them, so a profile speaks of nodes that no file
holds. Their optimized graph is saved beside the profile: every node of it is charged to the node of
the original file whose name it kept, or else to the tensor that it makes, or that the nodes behind
it make first. What counts is the least time over the runs, of each kernel by itself: other work on
the machine only ever adds to it, and the noise of the total is larger than most layers.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import UserError
from runtimes.base import Feeds

if TYPE_CHECKING:
    import onnx

RUNS = 15

_RENAMED = re.compile(r"(_nchwc)?(_token_\d+)?$")  # what ONNX Runtime adds to a name


@dataclass(frozen=True)
class OperatorTime:
    """One kernel that ONNX Runtime ran.

    Attributes:
        op_type: of the kernel, ``QLinearConv`` for a fused DQ, Conv, Q.
        tensor: of the original file, that it makes or helps to make.
        ms: the least over the runs.
    """

    op_type: str
    tensor: str
    ms: float


def profile(
    path: Path, feeds: Sequence[Feeds], *, threads: int | None = None, runs: int = RUNS
) -> list[OperatorTime]:
    """Times of all kernels on the CPU, in order of execution.

    Args:
        feeds: of samples, taken in turn.

    Raises:
        UserError: ONNX Runtime does not take the file.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        events = _run(path, feeds, threads, runs, Path(folder) / "profile", optimized)
        graph = onnx.load(optimized, load_external_data=False).graph
    tensor_of = _charges(graph, onnx.load(path, load_external_data=False).graph)
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"]:
            times[name].append(event["dur"] / 1e3)
            kinds[name] = event["args"]["op_name"]
    return [
        OperatorTime(kinds[name], tensor_of.get(name, ""), min(found))
        for name, found in times.items()
    ]


def _run(
    path: Path,
    feeds: Sequence[Feeds],
    threads: int | None,
    runs: int,
    prefix: Path,
    optimized: Path,
) -> list[dict[str, Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.enable_profiling = True
    options.profile_file_prefix = str(prefix)
    options.optimized_model_filepath = str(optimized)
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise UserError(
            f"ONNX Runtime does not take {path}: {str(error).splitlines()[0]}",
            fix="Look at it with: edgeport inspect FILE",
        ) from error
    for index in range(runs):
        session.run(None, dict(feeds[index % len(feeds)]))
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


def _charges(graph: onnx.GraphProto, original: onnx.GraphProto) -> dict[str, str]:
    """Node of the optimized graph to the tensor of the original one that it is charged to."""
    made = {node.name: node.output[0] for node in original.node if node.name and node.output}
    known = {name for node in original.node for name in node.output}
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node.name)
    found: dict[str, str] = {}
    for node in reversed(graph.node):  # readers come before what they read
        name = _RENAMED.sub("", node.name)  # of a blocked kernel, the name of what it makes
        names = (made.get(name, name), *node.output)
        tensor = next((name for name in names if name in known), None)
        behind = (found.get(reader) for name in node.output for reader in readers[name])
        found[node.name] = tensor or next(filter(None, behind), "")
    return found
