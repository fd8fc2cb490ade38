"""Train ``flashocc-mini`` and ``panoptic-flashocc-mini``, which share their weights, in one go.

    torchrun --nproc-per-node 2 -m training.flashocc_mini --work RUN       two processor cores
    python -m training.flashocc_mini --work RUN                            one core, or a GPU

Frames of the world ``--seed`` are rendered into ``RUN/cache`` first. A run that was interrupted
goes on from its last checkpoint with the same command. AdamW with warm-up and a cosine to zero,
gradients clipped at norm 5, moving averages of the weights; bfloat16 where the device has it. At
the end the averages get BatchNorm statistics of their own and are written as float16.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from calibration.samples.synthetic import WORLD_VERSION
from exporters.files import write_text, written_atomically
from exporters.flashocc.exporter import make_geometry
from exporters.flashocc.options import ExportOptions
from exporters.panoptic_flashocc.config import CONFIGS
from exporters.panoptic_flashocc.model import PanopticFlashOcc
from exporters.versions import tool_versions
from training.losses import class_weights
from training.scenes import Scenes
from training.trainee import Trainee, total

VARIANT = "panoptic-flashocc-mini"
HEATMAP_BIAS = -2.19
"""Of the centre head at the start: a tenth of the cells, so that the first steps are quiet."""

_CLIP = 5.0
_COUNTED_FRAMES = 64
_NORM_FRAMES = 64
_LOG = logging.getLogger("training")


@dataclass(frozen=True)
class Plan:
    """What a run is made of; all of it is written into the log.

    Attributes:
        seed: of the world that is trained on, of weights and of the order of frames.
        frames: different frames that are rendered.
        steps: optimizer steps.
        batch: frames a step and process.
        rate: peak learning rate.
        decay: of the weights.
        average: decay of their moving averages.
        warm_up: steps.
    """

    seed: int = 5000
    frames: int = 2048
    steps: int = 2400
    batch: int = 2
    rate: float = 3e-3
    decay: float = 1e-2
    average: float = 0.998
    warm_up: int = 100
    class_power: float = 0.25

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass(frozen=True)
class Place:
    """Which of several processes this is, and what it computes on."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls) -> Place:
        """As ``torchrun`` says; alone without it."""
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        if world > 1:
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=1))
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else "cpu"
        return cls(rank, world, torch.device(device))


class Run:
    """A network in training with everything that a checkpoint holds."""

    def __init__(self, plan: Plan, place: Place, scenes: Scenes, work: Path) -> None:
        self.plan, self.place, self.scenes, self.work = plan, place, scenes, work
        self.config = CONFIGS[VARIANT]
        torch.manual_seed(plan.seed)
        pooling = make_geometry(self.config, ExportOptions()).pooling
        network = PanopticFlashOcc(self.config, pooling)
        _calm(network)
        weights = class_weights(visible_counts(scenes), plan.class_power)
        self.trainee = Trainee(network, self.config, weights).to(place.device)
        self.trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model: nn.Module = self.trainee
        if place.world > 1:
            self.model = DistributedDataParallel(self.trainee, find_unused_parameters=True)
        self.optimizer = torch.optim.AdamW(
            self.trainee.parameters(), lr=plan.rate, weight_decay=plan.decay
        )
        self.average = {k: v.detach().clone().float() for k, v in network.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        torch.manual_seed(plan.seed + 1 + place.rank)

    @property
    def checkpoint(self) -> Path:
        return self.work / "checkpoint.pt"

    def resume(self) -> None:
        """Go on from the checkpoint where there is one."""
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.place.device, weights_only=True)
        self.trainee.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.history = state["average"], state["history"]
        self.step, self.seconds = state["step"], state["seconds"]
        torch.manual_seed(self.plan.seed + 1 + self.place.rank + 1000 * self.step)
        _LOG.info("resumed at step %d", self.step)

    def save(self) -> None:
        state = {
            "network": self.trainee.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }
        with written_atomically(self.checkpoint, overwrite=True) as temporary:
            torch.save(state, temporary)

    def train(self, *, every: int = 50) -> None:
        """All steps that are left; a line of log and a checkpoint ``every`` steps."""
        self.model.train()
        start, told = time.perf_counter() - self.seconds, 0
        sums: dict[str, float] = {}
        for batch in self._batches():
            losses = self._update(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            self.step += 1
            told += 1
            if self.step % every and self.step < self.plan.steps:
                continue
            self.seconds = time.perf_counter() - start
            if self.place.rank == 0:
                line = {name: round(value / told, 4) for name, value in sums.items()}
                line |= {"step": self.step, "seconds": round(self.seconds, 1)}
                self.history.append(line)
                _LOG.info("%s", json.dumps(line))
                self.save()
            sums, told = {}, 0

    def _update(self, batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        kind = self.place.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=_has_bfloat16(kind)):
            losses: dict[str, Tensor] = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        total(losses).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trainee.parameters(), _CLIP)
        self.optimizer.step()
        if self.place.rank == 0:
            self._follow()
        return losses

    def _follow(self) -> None:
        """Move the averages towards the weights; quickly at first, when weights are far off."""
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        for name, value in self.trainee.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.float(), 1 - keep)

    def _batches(self) -> Iterator[list[dict[str, Tensor]]]:
        """Batches of this process from the current step on, read one ahead."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, self.step)
            for step in range(self.step, self.plan.steps):
                batch = coming.result()
                coming = reader.submit(self._read, step + 1)
                yield [{k: v.to(self.place.device) for k, v in frame.items()} for frame in batch]

    def _read(self, step: int) -> list[dict[str, Tensor]]:
        plan, place = self.plan, self.place
        first = (step * place.world + place.rank) * plan.batch
        places = range(first, first + plan.batch)
        return [as_tensors(self.scenes[frame_at(plan, place_)]) for place_ in places]


def frame_at(plan: Plan, place: int) -> int:
    """Which frame stands at a place of the endless order: a new permutation every epoch."""
    epoch, within = divmod(place, plan.frames)
    return int(np.random.default_rng([plan.seed, epoch]).permutation(plan.frames)[within])


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
    network = run.trainee.network
    network.load_state_dict(run.average)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    run.trainee.train()
    with torch.no_grad():
        count = min(_NORM_FRAMES, len(run.scenes))
        for first in range(0, count, 4):
            frames = [as_tensors(run.scenes[i]) for i in range(first, min(first + 4, count))]
            images = torch.cat([frame["images"] for frame in frames]).to(run.place.device)
            bev = run.trainee.features(images, len(frames))
            for part in bev.chunk(len(frames)):
                network.get_submodule("aux_centerness_head")(part)
    network.eval()
    return {
        name: value.half().contiguous()
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def write_weights(run: Run, path: Path) -> None:
    """Weights as safetensors that say where they come from."""
    from safetensors.torch import save_file

    told = {"variant": VARIANT, "plan": json.dumps(dataclasses.asdict(run.plan)), "format": "pt"}
    with written_atomically(path, overwrite=True) as temporary:
        save_file({k: v.cpu() for k, v in finish(run).items()}, temporary, metadata=told)


def write_log(run: Run, path: Path) -> None:
    """What was run, where, and how the losses fell."""
    told = {
        "schema": "edgeport.training-log/1",
        "variant": VARIANT,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "plan": dataclasses.asdict(run.plan),
        "world": WORLD_VERSION,
        "processes": run.place.world,
        "device": run.place.device.type,
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "tools": tool_versions("torch", "numpy"),
        "history": run.history,
    }
    write_text(path, json.dumps(told, indent=1) + "\n", overwrite=True)


def _calm(network: PanopticFlashOcc) -> None:
    head = network.aux_centerness_head
    assert head is not None
    bias = head.get_submodule("task_heads.0.heatmap.1").get_parameter("bias")
    with torch.no_grad():
        bias.fill_(HEATMAP_BIAS)


def _has_bfloat16(kind: str) -> bool:
    return kind == "cpu" or torch.cuda.is_bf16_supported()


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
        write_log(run, work / "log.json")
        _LOG.info("wrote %s", work / f"{VARIANT}.safetensors")


if __name__ == "__main__":
    main()
