"""Kills runs of a recipe with SIGKILL at random moments and counts what was lost.

    python benchmarks/random_kills.py --kills 100          # about 8 minutes of one core

A run is started, killed after an amount of CPU time drawn anew, started again: CPU time, because
how far a run comes in a second depends on what else the machine does. Whenever one comes to its
end, its bundle is compared with that of a run that nobody disturbed and taken away, and the next
begins with nothing. Lost means: a stage whose record was there before a kill and is not after it, a
bundle that is not intact, or a model file of other bytes. Predicted before the first run: nothing.

Results go to ``benchmarks/results/random_kills.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import yaml

from deploy import Bundle
from deploy.bundle import partial_path
from exporters import export
from exporters.files import sha256_file
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "random_kills.json"
RECIPE: dict[str, Any] = {
    "model": {"file": "m.onnx"},  # of flashocc-nano: torch would be most of every run
    "samples": {"calibration": "synthetic:4:1", "evaluation": "synthetic:2:1000"},
    "quantization": {"scales": "minmax", "policies": ["onnxruntime"]},
    "benchmark": {"runs": 6, "warmup": 1, "threads": 1},
    "verify": {"scenes": 1, "waterfall": 1},
}


def start(recipe: Path, output: Path) -> psutil.Popen:
    code = "import sys; from deploy.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, "run", str(recipe), "-o", str(output)]
    return psutil.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def recorded(output: Path) -> dict[str, str]:
    """Stages that are done and the key of each, wherever the run has put them."""
    found = {}
    for folder in (partial_path(output), output):
        for path in (folder / "stages").glob("*.json"):
            found[path.stem] = json.loads(path.read_text())["key"]  # half a record is no JSON
    return found


def models(output: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in (output / "models").iterdir()}


def cpu_s(run: psutil.Popen) -> float:
    """CPU time that a run and its workers have used."""
    total = 0.0
    for process in [run, *run.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def until(run: psutil.Popen, limit_s: float) -> tuple[bool, float]:
    """Wait for the end, or for ``limit_s`` of CPU time: whether it ended, and what it used."""
    used = 0.0
    while run.poll() is None:
        with contextlib.suppress(psutil.Error):
            used = max(used, cpu_s(run))
        if used >= limit_s:
            return False, used
        time.sleep(0.01)
    return True, used


def kill_tree(run: psutil.Popen) -> None:
    """SIGKILL to the run; its workers end with it, or are killed too."""
    workers = run.children(recursive=True)
    run.send_signal(signal.SIGKILL)
    run.wait()
    for worker in psutil.wait_procs(workers, timeout=5)[1]:
        worker.kill()


def kill_many(kills: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="edgeport-kills-") as scratch:
        recipe, output = Path(scratch) / "recipe.yaml", Path(scratch) / "bundle"
        recipe.write_text(yaml.safe_dump(RECIPE))
        export("flashocc-nano", recipe.with_name("m.onnx"))
        _, whole_s = until(start(recipe, output), math.inf)
        print(f"an undisturbed run takes {whole_s:.1f} s of CPU time", flush=True)
        expected = models(output)
        lost: list[str] = []
        places: Counter[str] = Counter()
        done, finished = 0, 0
        shutil.rmtree(output)
        while done < kills:
            run = start(recipe, output)
            ended, _ = until(run, draw.uniform(0.05, 1.2) * whole_s)
            if not ended:
                before = recorded(output)
                kill_tree(run)
                done += 1
                after = recorded(output)
                places[f"{len(after)} stages done"] += 1
                lost += [f"kill {done}: {s}" for s in before if after.get(s) != before[s]]
                print(f"kill {done}: {len(after)} stages done, lost so far: {lost}", flush=True)
                continue
            finished += 1
            if Bundle.open(output).differences() or models(output) != expected:
                lost.append(f"the bundle after kill {done}")
            shutil.rmtree(output)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": environment(None),
        "kills": done,
        "seed": seed,
        "undisturbed_cpu_s": round(whole_s, 1),
        "finished": finished,
        "killed_at": dict(sorted(places.items())),
        "lost": lost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = kill_many(arguments.kills, arguments.seed)
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
