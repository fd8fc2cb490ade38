"""How long ``make demo``'s recipe takes from nothing, and how long when nothing has changed.

    python benchmarks/recipe_times.py             # about 5 minutes of one core

``examples/demo.yaml`` is run by the command line in processes of their own: *cold* into no folder,
*warm* over the finished bundle, where every stage is remembered. CPU time of the process and its
children is kept beside the wall clock, because the machine may have other work; so is the load. To
reach: 5 minutes cold, 10 seconds warm.

Results go to ``benchmarks/results/recipe_times.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runtimes.machine import environment

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "recipe_times.json"
GOALS_S = {"cold": 300.0, "warm": 10.0}


def timed(recipe: Path, bundle: Path, *options: str) -> dict[str, Any]:
    """One run in a process of its own."""
    code = "import sys; from deploy.cli import main; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, "run", str(recipe), "-o", str(bundle), *options, "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    report = json.loads(done.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "load_after": [round(one, 1) for one in os.getloadavg()],
        "verdict": report["verdict"]["status"],
        "stages_s": {one["name"]: one["seconds"] for one in report["stages"]},
        "remembered": sum(one["cached"] for one in report["stages"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--recipe", type=Path, default=ROOT / "examples" / "demo.yaml")
    parser.add_argument("--warm", type=int, default=3, help="warm runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeport-times-") as scratch:
        bundle = Path(scratch) / "bundle"
        cold = timed(arguments.recipe, bundle)
        print(json.dumps(cold, indent=2), flush=True)
        warm = [timed(arguments.recipe, bundle, "--overwrite") for _ in range(arguments.warm)]
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": environment(None),
        "recipe": arguments.recipe.name,
        "goals_s": GOALS_S,
        "cold": cold,
        "warm": warm,
    }
    print(json.dumps(warm, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
