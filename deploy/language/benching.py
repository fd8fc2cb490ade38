"""Tokens per second of language models: a prompt taken in, then one token after the other.

Each file has a process of its own, and they take turns: one round is a whole text, its prompt (the
*prefill*) and the steps after it (the *decoding*), in an order drawn anew. So both phases are
measured at the same lengths of the cache for all files, and a busy minute slows all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.language.perplexity import Progress
from exporters.errors import UserError
from runtimes.benchmark import busy_notes
from runtimes.machine import environment
from runtimes.timing import Interval, paired_ratio
from runtimes.workers import Message, Worker

TOKEN_BENCH_SCHEMA = "edgeport.token-bench/1"


@dataclass(frozen=True)
class TokenPlan:
    """How much to measure.

    Attributes:
        prompt: tokens taken in at once. steps: tokens after it, one by one.
        rounds: texts of each file; one more before them is thrown away.
        seed: of the tokens and of the order of the files.
        kernels: compile kernels for files that have functions for them.
    """

    prompt: int = 128
    steps: int = 32
    rounds: int = 6
    seed: int = 0
    threads: int | None = None
    kernels: bool = False

    def __post_init__(self) -> None:
        for name in ("prompt", "steps", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}", fix="Give 1 or more")


@dataclass(frozen=True)
class TokenSpeed:
    """One file.

    Attributes:
        prefill_s, decode_s: of each round, all of its prompt and all of its steps.
        prefill_ratio, decode_ratio: reference's time / this one's, round by round; None for the
            reference, and where there are too few rounds for an interval.
        peak_mib: of the process, with the cache at its fullest; baseline_mib: before the file came.
        cache_bytes_a_token: of keys and values.
    """

    name: str
    prompt: int
    steps: int
    prefill_s: tuple[float, ...]
    decode_s: tuple[float, ...]
    prefill_ratio: Interval | None
    decode_ratio: Interval | None
    load_s: float
    peak_mib: float
    baseline_mib: float
    cache_bytes_a_token: float
    kernels: bool

    @property
    def prefill_tokens_per_s(self) -> float:
        """Median over rounds."""
        return self.prompt / float(np.median(self.prefill_s))

    @property
    def decode_tokens_per_s(self) -> float:
        return self.steps / float(np.median(self.decode_s))

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
        }


@dataclass(frozen=True)
class TokenBench:
    """All files of one interleaved run."""

    files: tuple[TokenSpeed, ...]
    plan: TokenPlan
    environment: dict[str, Any]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": TOKEN_BENCH_SCHEMA,
            "plan": asdict(self.plan),
            "files": [speed.to_json() for speed in self.files],
            "environment": self.environment,
            "notes": list(self.notes),
        }


def bench_tokens(
    files: Sequence[Path], plan: TokenPlan | None = None, progress: Progress | None = None
) -> TokenBench:
    """Time language models against each other; the first is the reference of the ratios.

    Raises:
        UserError: no file, no language model, or prompt and steps do not fit a context.
        MissingRequirementError: no runtime, or no compiler for the kernels.
    """
    if not files:
        raise UserError("nothing to time", fix="edgeport bench FILE… --tokens 32")
    plan = plan or TokenPlan()
    machine = environment(plan.threads)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker("deploy.language.measuring", f"benchmark of {path.name}"))
            for path in files
        ]
        loaded = [
            worker.request({"do": "load", "path": str(path.resolve()), **asdict(plan)})
            for worker, path in zip(workers, files, strict=True)
        ]
        turns = _take_turns(workers, plan, progress)
        memories = [worker.request({"do": "memory"}) for worker in workers]
    speeds = [
        _speed(path, plan, turn, turns[0], {**load, **memory})
        for path, turn, load, memory in zip(files, turns, loaded, memories, strict=True)
    ]
    return TokenBench(tuple(speeds), plan, machine, busy_notes(machine))


def _take_turns(
    workers: Sequence[Worker], plan: TokenPlan, progress: Progress | None
) -> list[list[Message]]:
    order = np.random.default_rng(plan.seed)
    turns: list[list[Message]] = [[] for _ in workers]
    for done in range(plan.rounds + 1):
        for index in order.permutation(len(workers)):
            turn = workers[index].request({"do": "text", "seed": plan.seed + done})
            if done > 0:
                turns[index].append(turn)
        if progress is not None:
            progress("texts", done + 1, plan.rounds + 1)
    return turns


def _speed(
    path: Path, plan: TokenPlan, turn: list[Message], reference: list[Message], known: Message
) -> TokenSpeed:
    def ratio(phase: str) -> Interval | None:
        if turn is reference:
            return None
        return paired_ratio([t[phase] for t in reference], [t[phase] for t in turn])

    return TokenSpeed(
        name=path.name,
        prompt=plan.prompt,
        steps=plan.steps,
        prefill_s=tuple(t["prefill_s"] for t in turn),
        decode_s=tuple(t["decode_s"] for t in turn),
        prefill_ratio=ratio("prefill_s"),
        decode_ratio=ratio("decode_s"),
        load_s=known["load_s"],
        peak_mib=known["peak_mib"],
        baseline_mib=known["baseline_mib"],
        cache_bytes_a_token=known["cache_bytes_a_token"],
        kernels=known["kernels"],
    )
