"""The order of frames and the course of the learning rate."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from training.loop import Schedule, moved


def test_every_epoch_takes_every_frame_once() -> None:
    plan = Schedule(frames=7)
    orders = [[plan.frame_at(7 * epoch + place) for place in range(7)] for epoch in range(3)]
    assert all(Counter(order) == Counter(range(7)) for order in orders)
    assert orders[0] != orders[1]


def test_the_rate_rises_and_falls_to_nothing() -> None:
    plan = Schedule(steps=1000, warm_up=100, rate=1.0)
    rates = np.array([plan.rate_at(step) for step in range(1001)])
    assert rates.argmax() in (99, 100)
    assert rates.max() == 1.0
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()
    assert rates[-1] < 1e-6


def test_batches_are_moved_whole() -> None:
    batch = {"rows": torch.ones(2), "clouds": [torch.zeros(1), {"boxes": torch.ones(3)}]}
    there = moved(batch, torch.device("meta"))
    assert there["rows"].is_meta
    assert there["clouds"][1]["boxes"].is_meta
