"""The loop that any miniature is trained in: rates, averages, checkpoints, log, several processes.

AdamW with warm-up and a cosine to zero, gradients clipped at norm 5, moving averages of the
weights; bfloat16 where the device has it. A run that was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
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
from exporters.versions import tool_versions

Batch = Any
"""What a module takes that gives losses by name: tensors in dicts and lists."""

_CLIP = 5.0
_LOG = logging.getLogger("training")


@dataclass(frozen=True)
class Schedule:
    """What a run is made of; all of it is written into the log.

    Attributes:
        seed: of the world that is trained on, of weights and of the order of frames.
        frames: different ones that are generated.
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
    batch: int = 4
    rate: float = 3e-3
    decay: float = 1e-2
    average: float = 0.998
    warm_up: int = 100

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def frame_at(self, place: int) -> int:
        """The frame at a place of the endless order: a new permutation every epoch."""
        epoch, within = divmod(place, self.frames)
        return int(np.random.default_rng([self.seed, epoch]).permutation(self.frames)[within])


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


class Loop:
    """A network in training with everything that a checkpoint holds.

    Args:
        trainee: gives losses by name for a batch; what is trained is its ``network``.
        total: what is minimised.
        read: the batch of this process for the places of a step, on the CPU.
        checkpoint: file that the run is kept in.
    """

    def __init__(
        self,
        plan: Schedule,
        place: Place,
        trainee: nn.Module,
        total: Callable[[Mapping[str, Tensor]], Tensor],
        read: Callable[[range], Batch],
        checkpoint: Path,
    ) -> None:
        self.plan, self.place, self.checkpoint = plan, place, checkpoint
        self.trainee = trainee.to(place.device)
        self.total, self.read = total, read
        self.model: nn.Module = self.trainee
        if place.world > 1:
            self.model = DistributedDataParallel(self.trainee, find_unused_parameters=True)
        self.optimizer = torch.optim.AdamW(
            self.trainee.parameters(), lr=plan.rate, weight_decay=plan.decay
        )
        self.average = {k: v.detach().clone().float() for k, v in self.state.items()}
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def network(self) -> nn.Module:
        return self.trainee.get_submodule("network")

    @property
    def state(self) -> dict[str, Tensor]:
        """The numbers of the network that training moves."""
        return {k: v for k, v in self.network.state_dict().items() if v.is_floating_point()}

    def resume(self) -> None:
        """Go on from the checkpoint where there is one."""
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.place.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.history = state["average"], state["history"]
        self.step, self.seconds = state["step"], state["seconds"]
        torch.manual_seed(self.plan.seed + 1 + self.place.rank + 1000 * self.step)
        _LOG.info("resumed at step %d", self.step)

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
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

    def settle(self, batches: Iterator[Batch]) -> None:
        """Put the averages into the network, with BatchNorm statistics measured on ``batches``."""
        self.network.load_state_dict(self.average, strict=False)
        kinds = nn.BatchNorm1d | nn.BatchNorm2d
        norms = [module for module in self.network.modules() if isinstance(module, kinds)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        self.trainee.train()
        with torch.no_grad():
            for batch in batches:
                self.trainee(moved(batch, self.place.device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.network.eval()

    def write_log(self, path: Path, variant: str) -> None:
        """What was run, where, and how the losses fell."""
        told = {
            "schema": "edgeport.training-log/1",
            "variant": variant,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "plan": dataclasses.asdict(self.plan),
            "world": WORLD_VERSION,
            "processes": self.place.world,
            "device": self.place.device.type,
            "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
            "tools": tool_versions("torch", "numpy"),
            "history": self.history,
        }
        write_text(path, json.dumps(told, indent=1) + "\n", overwrite=True)

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        kind = self.place.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=_has_bfloat16(kind)):
            losses: dict[str, Tensor] = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.total(losses).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trainee.parameters(), _CLIP)
        self.optimizer.step()
        if self.place.rank == 0:
            self._follow()
        return losses

    def _follow(self) -> None:
        """Move the averages towards the weights; quickly at first, when weights are far off."""
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        for name, value in self.state.items():
            self.average[name].lerp_(value.float(), 1 - keep)

    def _batches(self) -> Iterator[Batch]:
        """Batches of this process from the current step on, read one ahead."""
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, self._places(self.step))
            for step in range(self.step, self.plan.steps):
                batch = coming.result()
                coming = reader.submit(self.read, self._places(step + 1))
                yield moved(batch, self.place.device)

    def _places(self, step: int) -> range:
        first = (step * self.place.world + self.place.rank) * self.plan.batch
        return range(first, first + self.plan.batch)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The tensors of a batch on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    return [moved(value, device) for value in batch]


def _has_bfloat16(kind: str) -> bool:
    return kind == "cpu" or torch.cuda.is_bf16_supported()
