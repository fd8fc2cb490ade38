"""A program with trtexec's command line and files, in the place of the real one.

Banner, options, exit codes and JSON are those of samples/trtexec and samples/common in
github.com/NVIDIA/TensorRT at the tags 8.5.2, v10.3.0 and v11.1; ONNX Runtime computes. An "engine"
is the model file. An option that the version does not know ends it, as there.
"""

from __future__ import annotations

import stat
import sys
from pathlib import Path

_COMMON = (
    *("onnx", "saveEngine", "loadEngine", "memPoolSize", "minShapes", "optShapes", "maxShapes"),
    *("timingCacheFile", "shapes", "loadInputs", "iterations", "duration", "warmUp"),
    *("exportTimes", "exportOutput", "useCudaGraph", "useSpinWait"),
)
_LATER = ("skipInference", "stronglyTyped", "builderOptimizationLevel", "errorOnTimingCacheMiss")
OPTIONS = {
    "8502": (*_COMMON, "buildOnly", "int8", "fp16"),
    "100300": (*_COMMON, *_LATER, "stripWeights", "int8", "fp16", "bf16"),
    "110100": (
        *(*_COMMON, *_LATER, "stripWeights", "int8"),
        *("includeDataTransfers", "noCudaGraph", "noSpinWait"),
    ),
}
"""By NV_TENSORRT_VERSION, read in samples/common/sampleOptions.cpp of each tag."""

_PROGRAM = """#!{python}
import json, pathlib, re, shutil, sys, time
NUMBER, KNOWN, CALLS = {number!r}, {known!r}, pathlib.Path({calls!r})
print("&&&& RUNNING TensorRT.trtexec [TensorRT v" + NUMBER + "] # " + " ".join(sys.argv))
if "--help" in sys.argv:
    sys.exit(0)
with CALLS.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
given = dict(a[2:].partition("=")[::2] for a in sys.argv[1:])
for name in given:
    if name not in KNOWN:
        print("[11/22/2026-13:00:00] [E] Unknown option: --" + name)
        sys.exit(1)
if "saveEngine" in given:
    import onnx
    if onnx.load(given["onnx"]).functions and NUMBER < "9":
        print("[11/22/2026-13:00:00] [E] [TRT] ModelImporter.cpp:726: No importer registered")
        sys.exit(1)
    shutil.copy(given["onnx"], given["saveEngine"])
    sys.exit(0)
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(given["loadEngine"], providers=["CPUExecutionProvider"])
TYPES = {{"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}}
files = dict(re.findall(r"'([^']+)':([^,]+)", given["loadInputs"]))
sizes = dict(part.split(":") for part in given.get("shapes", "").split(",") if part)
feeds = {{}}
for port in session.get_inputs():
    shape = [int(s) for s in sizes[port.name].split("x")] if port.name in sizes else port.shape
    feeds[port.name] = np.fromfile(files[port.name], TYPES[port.type]).reshape(shape)
names = [port.name for port in session.get_outputs()]
trace = []
for _ in range(int(given["iterations"])):
    began = time.perf_counter()
    outputs = session.run(names, feeds)
    spent = 1e3 * (time.perf_counter() - began)
    trace.append({{"startEnqMs": 1.0, "endEnqMs": 1.0 + spent / 10, "startH2dMs": 1.0,
        "endH2dMs": 1.25, "startComputeMs": 1.25, "endComputeMs": 1.25 + spent,
        "startD2hMs": 1.25 + spent, "endD2hMs": 1.75 + spent, "h2dMs": 0.25,
        "computeMs": spent, "d2hMs": 0.5, "latencyMs": spent + 0.75}})
if "exportTimes" in given:
    pathlib.Path(given["exportTimes"]).write_text(json.dumps(trace))
if "exportOutput" in given:
    rows = [
        '{{ "name" : "%s"\\n  , "dimensions" : "%s"\\n  , "values" : [ %s ]\\n  }}\\n'
        % (name, "x".join(map(str, value.shape)),
           ", ".join("%.6g" % float(number) for number in value.ravel()))
        for name, value in zip(names, outputs)
    ]
    pathlib.Path(given["exportOutput"]).write_text("[\\n  " + ", ".join(rows) + "]\\n")
"""


def install(folder: Path, number: str) -> Path:
    """Write the program for version ``number``; every call of it is a line of ``calls.jsonl``."""
    folder.mkdir(exist_ok=True)
    program = folder / "trtexec"
    program.write_text(
        _PROGRAM.format(
            python=sys.executable,
            number=number,
            known=OPTIONS[number],
            calls=str(folder / "calls.jsonl"),
        )
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def python_with(folder: Path) -> Path:
    """An interpreter that finds the programs in ``folder`` first, for a board's ``python``."""
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nPATH={folder}:"$PATH" exec {sys.executable} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return wrapper
