"""Train ``pillarhist-mini`` or its twin ``pointpillars-mini``: same turns, same steps, same seed.

    python -m training.pillarhist_mini --work RUN
    python -m training.pillarhist_mini --work RUN --variant pointpillars-mini
    python -m training.pillarhist_mini --work FINE --kitti KITTI --steps 2000 --rate 5e-4

Turns of a LiDAR in the world ``--seed`` are cast into ``RUN/cache`` first, a tenth of a second;
no image is rendered. A run that was interrupted goes on from its last checkpoint with the same
command; ``torchrun`` trains with several processes (see `training.loop`). With ``--kitti`` the
labelled frames of a KITTI object root are learnt from instead, starting from ``--start``, or from
the weights that come with edgeport.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from exporters.files import written_atomically
from exporters.pillarhist.config import CONFIGS
from exporters.pillarhist.exporter import build_network
from exporters.pillarhist.model import PillarDetector
from exporters.pillarhist.options import ExportOptions
from exporters.pillarhist.weights import find_source
from training.cloud_batches import Things, Turn, batch_of, example
from training.clouds import Clouds
from training.kitti_turns import KittiTurns
from training.loop import Loop, Place, Schedule
from training.pillar_trainee import PillarTrainee, total

VARIANTS = ("pillarhist-mini", "pointpillars-mini")

_THING_TURNS = 1024
_NORM_BATCHES = 48
_LOG = logging.getLogger("training")


class Turns(Protocol):
    """Any number of turns, see `training.clouds.Clouds`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Turn: ...


class Run:
    """One of the twins in training.

    Args:
        turns: what is learnt from; the first ones also lend their pedestrians and cyclists.
        network: to go on from; a new one without it.
    """

    def __init__(
        self,
        variant: str,
        plan: Schedule,
        place: Place,
        turns: Turns,
        work: Path,
        network: PillarDetector | None = None,
    ) -> None:
        self.variant, self.plan, self.turns = variant, plan, turns
        self.config = CONFIGS[variant]
        torch.manual_seed(plan.seed)
        self.network = network or PillarDetector(self.config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.things = Things([turns[i] for i in range(min(_THING_TURNS, len(turns)))])
        checkpoint = work / f"{variant}.checkpoint.pt"
        trainee = PillarTrainee(self.network)
        self.loop = Loop(plan, place, trainee, total, self.read, checkpoint)

    def read(self, places: range) -> dict[str, Any]:
        """The batch of these places of the endless order; the same for both twins."""
        examples = []
        for place in places:
            turn = self.turns[self.plan.frame_at(place)]
            rng = np.random.default_rng([self.plan.seed, 1, place])
            examples.append(example(turn, self.things, rng))
        return batch_of(examples, self.network.vfe, self.config)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights with BatchNorm statistics of their own, float16."""
        self.loop.settle(self._plain())
        return {name: value.half().contiguous().cpu() for name, value in self.loop.state.items()}

    def _plain(self) -> Iterator[dict[str, Any]]:
        """Turns as they are."""
        size = self.plan.batch
        for first in range(0, min(_NORM_BATCHES * size, len(self.turns)), size):
            last = min(first + size, len(self.turns))
            rngs = [np.random.default_rng(index) for index in range(first, last)]
            turns = zip(range(first, last), rngs, strict=True)
            plain = [example(self.turns[index], None, rng) for index, rng in turns]
            yield batch_of(plain, self.network.vfe, self.config)


def write_weights(run: Run, path: Path) -> None:
    """Weights as safetensors that say where they come from."""
    from safetensors.torch import save_file

    plan = json.dumps(dataclasses.asdict(run.plan))
    told = {"variant": run.variant, "plan": plan, "format": "pt"}
    with written_atomically(path, overwrite=True) as temporary:
        save_file(run.weights(), temporary, metadata=told)


def trained(variant: str, start: Path | None) -> PillarDetector:
    """The network with the weights of ``start``, or with those that come with edgeport."""
    weights = "trained" if start is None else None
    return build_network(find_source(variant, ExportOptions(checkpoint=start, weights=weights)))[0]


def _asked() -> tuple[argparse.Namespace, Schedule]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="cache, checkpoints and logs")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0])
    parser.add_argument("--kitti", type=Path, help="object root: learn from its labelled frames")
    parser.add_argument("--start", type=Path, help="with --kitti: weights to start from")
    parser.add_argument("--scan-only", action="store_true")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="for scanning")
    for item in dataclasses.fields(Schedule):
        kind = float if isinstance(item.default, float) else int
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=item.default)
    given = parser.parse_args()
    plan = {item.name: getattr(given, item.name) for item in dataclasses.fields(Schedule)}
    return given, Schedule(**plan)


def main() -> None:
    given, plan = _asked()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    place, variant, work = Place.join(), given.variant, given.work
    classes = CONFIGS[variant].classes
    turns: Turns
    network = None
    if given.kitti is not None:
        turns = KittiTurns.open(given.kitti, classes)
        plan = dataclasses.replace(plan, frames=len(turns))
        network = trained(variant, given.start)
        work.mkdir(parents=True, exist_ok=True)
    else:
        turns = clouds = Clouds(work / "cache", classes, plan.seed, plan.frames)
        if place.rank == 0:
            clouds.scan(given.workers)
        if given.scan_only:
            return
    if place.world > 1:
        dist.barrier()
    run = Run(variant, plan, place, turns, work, network)
    run.loop.resume()
    run.loop.train()
    if place.rank == 0:
        write_weights(run, work / f"{variant}.safetensors")
        run.loop.write_log(work / f"{variant}.json", variant)
        _LOG.info("wrote %s", work / f"{variant}.safetensors")


if __name__ == "__main__":
    main()
