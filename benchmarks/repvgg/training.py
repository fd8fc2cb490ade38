"""Training RepVGG-A1 on two cores in slices that can be interrupted.

Small scenes with pale photographs first, full ones of 224 pixels last: a digit keeps its size in
pixels, so that what is learnt cheaply stays of use. AdamW with one cosine over all phases; forward
and backward in bfloat16 with channels last, three times as fast as float32 with AMX. A slice ends
when its seconds are used up and leaves a checkpoint; the next one goes on with the very batch that
would have followed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.repvgg.network import RepVGGA1
from benchmarks.repvgg.scenes import scenes
from exporters.files import written_atomically

CLASSES = 10
RATE, DECAY = 2e-3, 0.02


@dataclass(frozen=True)
class Phase:
    size: int
    clutter: float
    batch: int
    steps: int


PHASES = (
    Phase(32, 0.2, 64, 250),
    Phase(64, 0.5, 64, 120),
    Phase(64, 1.0, 64, 180),
    Phase(224, 1.0, 16, 40),
)
STEPS = sum(phase.steps for phase in PHASES)


def train(checkpoint: Path, seconds: float) -> bool:
    """Go on from ``checkpoint``, or start, for about ``seconds``; true when it is complete."""
    deadline = time.monotonic() + seconds
    torch.manual_seed(0)
    net = RepVGGA1(CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    state: dict[str, Any] = {"step": 0, "cpu_s": 0.0}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
    started = time.process_time()
    step = state["step"]
    losses = []
    while step < STEPS and time.monotonic() < deadline:
        losses.append(_step(net, optimizer, step))
        step += 1
    done = {
        "step": step,
        "cpu_s": state["cpu_s"] + time.process_time() - started,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with written_atomically(checkpoint, overwrite=True) as path:
        torch.save(done, path)
    recent = losses[-30:]
    print(f"step {step} of {STEPS}, loss {sum(recent) / max(len(recent), 1):.3f}", flush=True)
    return step >= STEPS


def trained(checkpoint: Path) -> tuple[RepVGGA1, float]:
    """The network in inference mode, and the CPU seconds that its training took."""
    state = torch.load(checkpoint, weights_only=True)
    if state["step"] < STEPS:
        raise SystemExit(f"{checkpoint} is at step {state['step']} of {STEPS}: train on")
    net = RepVGGA1(CLASSES)
    net.load_state_dict(state["net"])
    return net.eval(), float(state["cpu_s"])


def _step(net: RepVGGA1, optimizer: torch.optim.Optimizer, step: int) -> float:
    phase, first = _phase_of(step)
    warm = min(1.0, (step + 1) / 20)
    for group in optimizer.param_groups:
        group["lr"] = RATE * warm * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
    images, labels = scenes("train", first, phase.batch, phase.size, phase.clutter)
    x = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    net.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x)
    loss = F.cross_entropy(logits.float(), torch.from_numpy(labels))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _phase_of(step: int) -> tuple[Phase, int]:
    """The phase that a step belongs to, and the index of its first scene."""
    first = 0
    for phase in PHASES:
        if step < phase.steps:
            return phase, first + step * phase.batch
        step -= phase.steps
        first += phase.steps * phase.batch
    raise ValueError(f"there is no step {step} after the last phase")
