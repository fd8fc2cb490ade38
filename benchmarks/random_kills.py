"""Kills runs of a recipe with SIGKILL at random moments and counts what was lost.

    python -m benchmarks.random_kills --kills 100       # about 10 minutes of one core

A run is started, killed after an amount of CPU time drawn anew, started again: CPU time, because
how far a run comes in a second depends on what else the machine does. Whenever one comes to its
end, its bundle is compared with that of a run that nobody disturbed and taken away, and the next
begins with nothing. Lost means: a stage whose record was there before a kill and is not after it, a
bundle that is not intact, or a model file of other bytes. Predicted before the first run: nothing.

Results go to ``benchmarks/results/random_kills.json`` after every kill; a benchmark that was
stopped goes on there, too.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
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
from exporters.files import sha256_file, write_text
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
    found = so_far(seed)
    lost: list[str] = found["lost"]
    places = Counter(found["killed_at"])
    with tempfile.TemporaryDirectory(prefix="edgeport-kills-") as scratch:
        recipe, output = Path(scratch) / "recipe.yaml", Path(scratch) / "bundle"
        recipe.write_text(yaml.safe_dump(RECIPE))
        export("flashocc-nano", recipe.with_name("m.onnx"))
        _, whole_s = until(start(recipe, output), math.inf)
        print(f"an undisturbed run takes {whole_s:.1f} s of CPU time", flush=True)
        expected = models(output)
        found["undisturbed_cpu_s"] = round(whole_s, 1)
        shutil.rmtree(output)
        while (done := found["kills"]) < kills:
            draw = random.Random(f"{seed} {done} {found['finished']}")
            run = start(recipe, output)
            ended, _ = until(run, draw.uniform(0.05, 1.2) * whole_s)
            if not ended:
                before = recorded(output)
                kill_tree(run)
                found["kills"] = done = done + 1
                after = recorded(output)
                places[f"{len(after)} stages done"] += 1
                lost += [f"kill {done}: {s}" for s in before if after.get(s) != before[s]]
                print(f"kill {done}: {len(after)} stages done, lost so far: {lost}", flush=True)
                found["killed_at"] = dict(sorted(places.items()))
                save(found)
                continue
            found["finished"] += 1
            if Bundle.open(output).differences() or models(output) != expected:
                lost.append(f"the bundle after kill {done}")
            shutil.rmtree(output)
            save(found)
    return found


def so_far(seed: int) -> dict[str, Any]:
    """What an earlier run with this seed found, or nothing yet."""
    if RESULTS.is_file():
        found: dict[str, Any] = json.loads(RESULTS.read_text())
        if found["seed"] == seed:
            return found
    return {
        "date": datetime.date.today().isoformat(),
        "machine": environment(None),
        "seed": seed,
        "kills": 0,
        "finished": 0,
        "killed_at": {},
        "lost": [],
    }


def save(found: dict[str, Any]) -> None:
    found["load"] = [round(one, 1) for one in os.getloadavg()]
    write_text(RESULTS, json.dumps(found, indent=2) + "\n", overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = kill_many(arguments.kills, arguments.seed)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
