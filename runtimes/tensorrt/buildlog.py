"""What a TensorRT builder says about an engine while it builds it: memory, and why it failed.

Without a GPU these figures are all there is to know about an engine's cost, because the whole
network becomes one compiled region and no layer table exists before it is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporters.errors import UserError
from runtimes.base import Progress
from runtimes.graphview import all_nodes, describe
from runtimes.tensorrt.advice import advice_for
from runtimes.tensorrt.installed import Installed

if TYPE_CHECKING:
    import onnx

_FIGURES = {
    "weights_bytes": re.compile(r"Total Weights Memory: (\d+) bytes"),
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+) bytes"),
    "scratch_bytes": re.compile(r"Max Scratch Memory: (\d+) bytes"),
    "host_persistent_bytes": re.compile(r"Total Host Persistent Memory: (\d+) bytes"),
    "device_persistent_bytes": re.compile(r"Total Device Persistent Memory: (\d+) bytes"),
    "builder_peak_cpu_mib": re.compile(r"Peak memory usage of TRT CPU/GPU.*CPU (\d+) MiB"),
    "builder_peak_gpu_mib": re.compile(r"Peak memory usage of TRT CPU/GPU.*GPU (\d+) MiB"),
}
_SOURCE_LOCATION = re.compile(r"^\[[^\]]*\]\s*| In \S+ at \S+:\d+")
_LAYER_NUMBER = re.compile(r"_\d+$")
_ASSERTION = re.compile(r"^Assertion failed: .+?[^:]: (?=\S)")
_WORD = re.compile(r"[^\s'\"(){}\[\],]+")


@dataclass
class BuildLog:
    """Receives a worker's events: keeps log lines, hands progress on to the caller."""

    progress: Progress | None = None
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            self.report(event["percent"])
            return
        self.lines.append(event["text"])
        if event["severity"] in ("error", "internal error"):
            self.errors.append(event["text"])

    def report(self, percent: int) -> None:
        if self.progress is not None:
            self.progress("build engine", percent, 100)

    def figures(self) -> dict[str, int]:
        """Memory figures; one that the builder did not print is absent."""
        found: dict[str, int] = {}
        for line in self.lines:
            for name, pattern in _FIGURES.items():
                match = pattern.search(line)
                if match:
                    found[name] = int(match.group(1))
        return found

    def reason(self) -> str:
        """The first error, without places in the builder's own source."""
        if not self.errors:
            return "the builder gave no reason"
        return _SOURCE_LOCATION.sub("", self.errors[0]).strip(" .")


def build_failure(
    graph: onnx.GraphProto,
    model: Path,
    parser_errors: list[dict[str, str]],
    log: BuildLog,
    installed: Installed,
) -> UserError:
    """The sentence for a refused model: node, operator, the builder's reason, the substitute."""
    if parser_errors:
        first = parser_errors[0]
        node, op_type, reason = first["node"], first["op_type"], plain_words(first["message"])
    else:
        reason = log.reason()
        found = named_node(reason, graph)
        node, op_type = (describe(found), found.op_type) if found is not None else ("", "")
    where = f" at node {node!r} ({op_type})" if op_type else ""
    verb = "parse" if parser_errors else "build"
    return UserError(
        f"{installed} cannot {verb} {model}{where}: {reason}",
        fix=advice_for(op_type, reason),
    )


def plain_words(message: str) -> str:
    """A parser's message without its C++: the asserted expression, and the bare ``false``."""
    words = _ASSERTION.sub("", message).strip(" .")
    return "the parser does not know this operator" if words == "false" else words


def named_node(text: str, graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The node that an error names: layers carry node names, some with a number behind.

    The layer of a node without a name is ``node_of_`` and the node's first output.
    """
    nodes = {node.name or f"node_of_{node.output[0]}": node for node in all_nodes(graph)}
    words = {word.rstrip(":;.") for word in _WORD.findall(text)}
    hits = nodes.keys() & (words | {_LAYER_NUMBER.sub("", word) for word in words})
    return nodes[max(hits, key=len)] if hits else None
