"""Where TensorRT's Python bindings are missing or too old: trtexec builds, times and answers.

JetPack 5 is such a place. trtexec is a program, so a session is a command line:

    time    a block of ``BLOCK`` iterations, --exportTimes; runs are handed out one by one
    run     one iteration, --loadInputs and --exportOutput

So cases take turns in blocks, not in single runs, and floats come back with six digits, as trtexec
writes them. Options and file formats are those of samples/common/sampleOptions.cpp and
sampleReporting.cpp in github.com/NVIDIA/TensorRT (8.5.2, 8.6.1, 9.1 to 11.1). Evidence: written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from typing import Any, Dict, List, Tuple

import numpy as np

from .journal import BoardError, Journal
from .probing import find_trtexec, trtexec_version
from .wishes import trtexec_arguments

BLOCK = 50
WARM_UP_MS = 200
_KEPT_LINES = 8
_SINCE = {
    "--skipInference": (8, 6),
    "--builderOptimizationLevel": (8, 6),
    "--errorOnTimingCacheMiss": (9, 0),
    "--stronglyTyped": (9, 0),
    "--stripWeights": (10, 0),
}
_STRONGLY_TYPED = (10, 0)
_OTHER_DEFAULTS = (11, 0)
"""From here on CUDA graphs and spinning are on and copies left out, unless asked otherwise."""
_SPANS = ("h2dMs", "computeMs", "d2hMs")

Feeds = Dict[str, Any]
Version = Tuple[int, ...]


def build_command(
    trtexec: str, version: Version, model: str, engine: str, options: Dict[str, Any]
) -> List[str]:
    """Of one engine. TensorRT 8 is told the types that the model has; later ones read them.

    Raises:
        BoardError: this trtexec is too old for a wish.
    """
    command = [trtexec, f"--onnx={model}", f"--saveEngine={engine}"]
    command.append("--skipInference" if version >= _SINCE["--skipInference"] else "--buildOnly")
    command += trtexec_arguments(options)
    if version >= _STRONGLY_TYPED:
        command.append("--stronglyTyped")
    else:
        command += [f"--{kind}" for kind in options.get("types", ())]
    for argument in command[3:]:
        name = argument.split("=")[0]
        if version < _SINCE.get(name, (0,)):
            raise BoardError(
                f"trtexec {dotted(version)} of the board has no {name}",
                f"It came with TensorRT {dotted(_SINCE[name])}; leave that wish away",
            )
    return command


def build(model: str, engine: str, options: Dict[str, Any], log: Journal) -> None:
    """Write ``engine``.

    Raises:
        BoardError: with trtexec's own error lines.
    """
    trtexec, version = _found()
    if options.get("timing_cache"):
        os.makedirs(os.path.dirname(options["timing_cache"]), exist_ok=True)
    command = build_command(trtexec, version, model, engine, options)
    log.write("said", text=" ".join(command))
    _called(command)
    if not os.path.exists(engine):
        raise BoardError(f"trtexec {dotted(version)} said success and wrote no engine")


class TrtexecSession:
    """An engine behind trtexec's command line."""

    def __init__(self, path: str, options: Dict[str, Any]) -> None:
        self._trtexec, self._version = _found()
        self._path = path
        self._dtypes: Dict[str, str] = options.get("outputs", {})
        self._dynamic = bool(options.get("dynamic"))
        self.switches = {name: bool(options.get(name)) for name in ("cuda_graph", "spin_wait")}
        self._waiting: List[Dict[str, float]] = []

    def run(self, feeds: Feeds) -> Dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="edgeport-") as folder:
            answer = os.path.join(folder, "outputs.json")
            self._called(feeds, folder, 1, 0, f"--exportOutput={answer}")
            with open(answer, encoding="utf-8") as file:
                return read_outputs(file.read(), self._dtypes)

    def time(self, feeds: Feeds) -> Dict[str, float]:
        if not self._waiting:
            self._waiting = self._block(feeds)
        return self._waiting.pop(0)

    def _block(self, feeds: Feeds) -> List[Dict[str, float]]:
        with tempfile.TemporaryDirectory(prefix="edgeport-") as folder:
            times = os.path.join(folder, "times.json")
            self._called(feeds, folder, BLOCK, WARM_UP_MS, f"--exportTimes={times}")
            with open(times, encoding="utf-8") as file:
                return read_times(file.read())

    def _called(
        self, feeds: Feeds, folder: str, iterations: int, warm_up_ms: int, wanted: str
    ) -> None:
        counts = [f"--iterations={iterations}", "--duration=0", f"--warmUp={warm_up_ms}"]
        _called([*self._loaded(feeds, folder), *counts, wanted])

    def _loaded(self, feeds: Feeds, folder: str) -> List[str]:
        """The engine with ``feeds`` and the switches, up to what is asked of it."""
        inputs = []
        for index, (name, value) in enumerate(feeds.items()):
            file = os.path.join(folder, f"{index}.bin")
            np.ascontiguousarray(value).tofile(file)
            inputs.append(f"'{name}':{file}")
        command = [self._trtexec, f"--loadEngine={self._path}", f"--loadInputs={','.join(inputs)}"]
        if self._dynamic:
            sizes = (f"{name}:{'x'.join(map(str, value.shape))}" for name, value in feeds.items())
            command.append(f"--shapes={','.join(sizes)}")
        if self._version >= _OTHER_DEFAULTS:
            command.append("--includeDataTransfers")
            off = {"cuda_graph": "--noCudaGraph", "spin_wait": "--noSpinWait"}
            return [*command, *(off[name] for name, is_on in self.switches.items() if not is_on)]
        on = {"cuda_graph": "--useCudaGraph", "spin_wait": "--useSpinWait"}
        return [*command, *(on[name] for name, is_on in self.switches.items() if is_on)]


def read_times(text: str) -> List[Dict[str, float]]:
    """Of ``--exportTimes``: what a session of TensorRT's bindings gives for each run."""
    found = []
    for run in json.loads(text):
        h2d, compute, d2h = (float(run[key]) for key in _SPANS)
        found.append(
            {
                "wall_ms": float(run["latencyMs"]),
                "h2d_ms": h2d,
                "compute_ms": compute,
                "d2h_ms": d2h,
                "enqueue_ms": float(run["endEnqMs"]) - float(run["startEnqMs"]),
            }
        )
    return found


def read_outputs(text: str, dtypes: Dict[str, str]) -> Dict[str, Any]:
    """Of ``--exportOutput``; C++ writes ``nan`` and ``inf``, which JSON does not know so."""
    text = re.sub(r"(?<=[\[ ,])(-?)inf(?=[\], ])", r"\1Infinity", text)
    text = re.sub(r"(?<=[\[ ,])-?nan(?=[\], ])", "NaN", text)
    found = {}
    for output in json.loads(text):
        shape = [int(size) for size in output["dimensions"].split("x") if size]
        dtype = np.dtype(dtypes.get(output["name"], "float32"))
        found[output["name"]] = np.array(output["values"]).astype(dtype).reshape(shape)
    return found


def dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)


def _found() -> Tuple[str, Version]:
    trtexec = find_trtexec()
    if trtexec is None:
        raise BoardError(
            "the board has neither TensorRT's Python bindings nor trtexec",
            "sudo apt-get install nvidia-jetpack",
        )
    return trtexec, trtexec_version(trtexec)


def _called(command: List[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        text = done.stdout.decode("utf-8", "replace")
        errors = re.findall(r"\[E\] (.+)", text)[-_KEPT_LINES:]
        raise BoardError(f"trtexec failed ({done.returncode}): {'; '.join(errors) or text[-400:]}")
