"""What ``edgeport run examples/panoptic.yaml`` found, from the bundle that it left.

    edgeport run examples/panoptic.yaml -o panoptic-bundle          # about 20 minutes of one core
    python -m benchmarks.panoptic_recipe panoptic-bundle

Goals of the recipe's contract: INT8 within half a point of mIoU and one of RayPQ, by the whole
interval. Results go to ``benchmarks/results/panoptic_recipe.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from deploy import Bundle
from exporters.files import write_text

RESULTS = Path(__file__).parent / "results" / "panoptic_recipe.json"
METRICS = ("miou", "rayiou", "raypq")
OF_A_STAGE = (
    "stage",
    "owner",
    "after",
    "samples",
    "metric",
    "value",
    "loss",
    "low",
    "high",
    "also",
)


def shown(bundle: Bundle) -> dict[str, Any]:
    """Verdict, losses with their intervals, every stage of the waterfall, and durations."""
    report = bundle.report
    return {
        "date": report["created"][:10],
        "machine": report["environment"],
        "weights": report["model"]["weights"],
        "verdict": report["verdict"],
        "against_fp32": {
            one["candidate"]: {
                metric["name"]: {key: metric[key] for key in ("reference", "candidate", "interval")}
                for metric in one["paired"]
                if metric["name"] in METRICS
            }
            for one in report["agreement"]
        },
        "waterfall": [
            {key: row[key] for key in OF_A_STAGE} for row in report["waterfall"] if row["metric"]
        ],
        "stages_s": {one["name"]: one["seconds"] for one in report["stages"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = shown(Bundle.open(asked.bundle))
    write_text(asked.output, json.dumps(found, indent=2) + "\n", overwrite=True)
    print(f"{found['verdict']['status']}: {asked.output}")


if __name__ == "__main__":
    main()
