"""Pillar detectors through the command line to engines: what TensorRT-RTX builds, and what not.

    python benchmarks/pillarhist_engines.py [--variants NAME …] [-o benchmarks/results/…json]

For every variant ``edgeport export``, ``edgeport cast --to fp16``, ``edgeport quantize`` (with
``--rest fp16``) and ``edgeport build`` of every file, as a user types them. Weights are random, but
for the miniature's: what is built does not depend on them, nor on how ranges are chosen, so INT8
has those of one pass over a few generated scans. Engines cannot run without a GPU; the evidence is
``built``, or the refusal's words.
Predicted: the histogram variants build with the sorting body in place of the sum, for KITTI and for
ten sweeps of nuScenes. ``centerpoint-pillar-nuscenes`` does not, since it takes maxima over points,
and ``pointpillars-kitti`` not either, since it sorts all points at once.

A variant that stands in the result already is done again; others are kept, as are precisions that
are not asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.samples.drives import Drive
from calibration.samples.kitti_writing import kitti_drives, write_kitti
from calibration.samples.nuscenes_writing import write_nuscenes
from exporters.files import write_text
from exporters.modelfile import ModelFile
from runtimes.machine import environment
from runtimes.passport import read_passport

RESULT = Path(__file__).parent / "results" / "pillarhist_engines.json"
VARIANTS = (
    "pillarhist-pointpillars-kitti",
    "pillarhist-centerpoint-nuscenes",
    "pillarhist-mini",
    "centerpoint-pillar-nuscenes",
    "pointpillars-kitti",
)
PRECISIONS = ("fp32", "fp16", "int8")
DRIVES = (2, 2, 9300)
"""Of the scans that INT8 is calibrated on: drives, frames of each, seed."""
_PROGRAM = [sys.executable, "-c", "from deploy.cli import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    given = parser.parse_args()
    known = json.loads(given.output.read_text())["variants"] if given.output.exists() else {}
    for variant in given.variants:
        with tempfile.TemporaryDirectory() as folder:
            made = engines(variant, Path(folder), given.precisions)
            known[variant] = {**known.get(variant, {}), **made}
        result = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": environment(threads=1),
            "variants": {name: known[name] for name in VARIANTS if name in known},
        }
        write_text(given.output, json.dumps(result, indent=1) + "\n", overwrite=True)
        print(json.dumps({variant: known[variant]}, indent=1))


def engines(variant: str, folder: Path, precisions: Sequence[str]) -> dict[str, Any]:
    """Export, cast and build; what came of each step."""
    fp32, fp16 = folder / "fp32.onnx", folder / "fp16.onnx"
    typed("export", variant, "-o", fp32)
    found: dict[str, Any] = {
        "points": list(ModelFile(fp32).require_spec().inputs[0].shape),
        "size_mb": round(fp32.stat().st_size / 1e6, 1),
    }
    if "fp32" in precisions:
        found["fp32"] = engine(fp32)
    if "fp16" in precisions:
        typed("cast", fp32, "--to", "fp16", "-o", fp16)
        found["fp16"] = engine(fp16)
    if "int8" in precisions:
        int8, scans = folder / "int8.onnx", calibration_scans(variant, folder)
        simple = ("--scales", "percentile", "--no-correct-bias", "--rest", "fp16")
        typed("quantize", fp32, "--samples", scans, *simple, "-o", int8)
        found["int8"] = engine(int8)
    return found


def calibration_scans(variant: str, folder: Path) -> Path:
    """Generated scans of the sensor that the variant is for."""
    drives, frames, seed = DRIVES
    if variant.endswith("nuscenes"):
        made = [Drive(seed, index, frames, images=False) for index in range(drives)]
        return write_nuscenes(made, folder / "nuscenes")
    return write_kitti(kitti_drives(drives, frames, seed, images=False), folder / "kitti")


def engine(model: Path) -> dict[str, Any]:
    """The passport of the engine of ``model``, or the words of the refusal."""
    target = model.with_suffix(".engine")
    done = typed("build", model, "--runtime", "tensorrt", "-o", target, required=False)
    if done.returncode != 0:
        return {
            "built": False,
            "refusal": " ".join(done.stderr.split()).replace(str(model), model.name),
        }
    passport = read_passport(target)
    return {
        "built": True,
        "size_mb": round(target.stat().st_size / 1e6, 1),
        "runtime": f"{passport.runtime} {passport.runtime_version}",
        "evidence": passport.evidence.value,
        "options": dict(passport.options),
    }


def typed(*words: object, required: bool = True) -> subprocess.CompletedProcess[str]:
    """``edgeport`` with ``words``; raises where it must succeed and does not."""
    command = [*_PROGRAM, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if required and done.returncode != 0:
        raise RuntimeError(f"edgeport {' '.join(map(str, words))}: {done.stderr}")
    return done


if __name__ == "__main__":
    main()
