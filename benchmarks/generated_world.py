"""What a frame of the generated world costs: six camera images and all labels, on one core.

    python -m benchmarks.generated_world

Frames are made as samples are, at the width of the network's images (704x396 before the crop):
single frames, and key frames of a drive, which have a LiDAR scan and boxes too. Processor seconds
are what one core needs; the clock also counts what else the machine does.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibration.samples.drives import Drive, Sensors
from calibration.samples.synthetic import Stage, scaled
from calibration.samples.world.solids import Label
from exporters.files import write_text
from exporters.flashocc.default_rig import nuscenes_like_rig
from exporters.flashocc.geometry import Grid
from exporters.flashocc.rig import Rig
from runtimes import environment

RESULTS = Path(__file__).parent / "results" / "generated_world.json"
FRAMES, WIDTH, SEED = 20, 704, 77


def timed(work: Callable[[int], Any]) -> dict[str, float]:
    work(FRAMES)  # imports and first calls
    clock, processor = time.perf_counter(), time.process_time()
    for number in range(FRAMES):
        work(number)
    spent = {"processor_s": time.process_time() - processor, "clock_s": time.perf_counter() - clock}
    return {name: round(seconds, 2) for name, seconds in spent.items()}


def main() -> None:
    rig = Rig(tuple(scaled(camera, WIDTH) for camera in nuscenes_like_rig().cameras))
    stage = Stage(rig, Grid(), [label.name for label in Label])
    drive = Drive(SEED, 0, FRAMES + 1, Sensors(rig))
    results = {
        "date": datetime.date.today().isoformat(),
        "frames": FRAMES,
        "cameras": len(rig),
        "image": f"{WIDTH}x{rig.cameras[0].height}",
        "single_frames": timed(lambda number: stage.frame(SEED, number)),
        "drive": timed(drive.key_frame),
        "machine": environment(1),
    }
    write_text(RESULTS, json.dumps(results, indent=2) + "\n", overwrite=True)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
