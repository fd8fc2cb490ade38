"""Train ``flashocc-mini`` and ``panoptic-flashocc-mini``, which share their weights, in one go.

    torchrun --nproc-per-node 2 -m training.flashocc_mini --work RUN       two processor cores
    python -m training.flashocc_mini --work RUN                            one core, or a GPU

Frames of the world ``--seed`` are rendered into ``RUN/cache`` first. A run that was interrupted
goes on from its last checkpoint with the same command (see `training.loop`). At the end the moving
averages of the weights get BatchNorm statistics of their own and are written as float16.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from exporters.files import written_atomically
from exporters.flashocc.exporter import make_geometry
from exporters.flashocc.options import ExportOptions
from exporters.panoptic_flashocc.config import CONFIGS
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from training.loop import Loop, Place, Schedule
from training.losses import class_weights
from training.scenes import Scenes
from training.trainee import Trainee, total

VARIANT = "panoptic-flashocc-mini"
HEATMAP_BIAS = -2.19
"""Of the centre head at the start: a tenth of the cells, so that the first steps are quiet."""

_COUNTED_FRAMES = 64
_NORM_FRAMES, _NORM_BATCH = 64, 4
_LOG = logging.getLogger("training")


@dataclass(frozen=True)
class Plan(Schedule):
    """What a run is made of.

    Attributes:
        class_power: how much heavier rarer classes are, see ``training.losses.class_weights``.
    """

    batch: int = 2
    class_power: float = 0.25


class Run(Loop):
    """The network of both miniatures in training."""

    def __init__(self, plan: Plan, place: Place, scenes: Scenes, work: Path) -> None:
        self.scenes, self.work = scenes, work
        config = CONFIGS[VARIANT]
        torch.manual_seed(plan.seed)
        pooling = make_geometry(config, ExportOptions()).pooling
        network = PanopticFlashOcc(config, pooling)
        _calm(network)
        weights = class_weights(visible_counts(scenes), plan.class_power)
        trainee = Trainee(network, config, weights)
        trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(plan, place, trainee, total, self.frames_at, work / "checkpoint.pt")
        torch.manual_seed(plan.seed + 1 + place.rank)

    def frames_at(self, places: range) -> list[dict[str, Tensor]]:
        """The batch of these places of the endless order."""
        return [as_tensors(self.scenes[self.plan.frame_at(place)]) for place in places]


def as_tensors(frame: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value) for name, value in frame.items()}


def visible_counts(scenes: Scenes) -> Tensor:
    """Visible voxels of each class in the first frames, ``[classes]``."""
    counts = np.zeros(18, np.int64)
    for index in range(min(_COUNTED_FRAMES, len(scenes))):
        frame = scenes[index]
        seen = frame["semantics"][frame["mask_camera"] == 1]
        counts += np.bincount(seen, minlength=len(counts))
    return torch.from_numpy(counts)


def finish(run: Run) -> dict[str, Tensor]:
    """The averaged weights with BatchNorm statistics measured on training frames, float16."""
    count = min(_NORM_FRAMES, len(run.scenes))
    firsts = range(0, count, _NORM_BATCH)
    run.settle(
        [as_tensors(run.scenes[i]) for i in range(first, min(first + _NORM_BATCH, count))]
        for first in firsts
    )
    return {name: value.half().contiguous() for name, value in run.state.items()}


def write_weights(run: Run, path: Path) -> None:
    """Weights as safetensors that say where they come from."""
    from safetensors.torch import save_file

    told = {"variant": VARIANT, "plan": json.dumps(dataclasses.asdict(run.plan)), "format": "pt"}
    with written_atomically(path, overwrite=True) as temporary:
        save_file({k: v.cpu() for k, v in finish(run).items()}, temporary, metadata=told)


def _calm(network: PanopticFlashOcc) -> None:
    head = network.aux_centerness_head
    assert head is not None
    bias = head.get_submodule("task_heads.0.heatmap.1").get_parameter("bias")
    with torch.no_grad():
        bias.fill_(HEATMAP_BIAS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="cache, checkpoint and log")
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="for rendering")
    for item in dataclasses.fields(Plan):
        kind = float if isinstance(item.default, float) else int
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=item.default)
    given = vars(parser.parse_args())
    work, only, workers = (given.pop(name) for name in ("work", "render_only", "workers"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan, place = Plan(**given), Place.join()
    config = CONFIGS[VARIANT]
    scenes = Scenes(work / "cache", config.view, config.grid, plan.seed, plan.frames)
    if place.rank == 0:
        scenes.render(workers)
    if only:
        return
    if place.world > 1:
        dist.barrier()
    run = Run(plan, place, scenes, work)
    run.resume()
    run.train()
    if place.rank == 0:
        write_weights(run, work / f"{VARIANT}.safetensors")
        run.write_log(work / "log.json", VARIANT)
        _LOG.info("wrote %s", work / f"{VARIANT}.safetensors")


if __name__ == "__main__":
    main()
