"""Tokens per second on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.console import Output
from deploy.language.benching import TokenPlan, TokenSpeed, bench_tokens
from exporters.errors import EXIT_OK
from runtimes.timing import Interval


def show_tokens(out: Output, files: Sequence[Path], plan: TokenPlan) -> int:
    """Measure ``files`` and print them; the exit code."""
    with out.progress("Bench") as progress:
        found = bench_tokens(files, plan, progress)
    machine = found.environment
    out.say(
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, load "
        f"{machine['load']} before; {plan.rounds} texts of {plan.prompt} + {plan.steps} tokens, "
        "files in turns"
    )
    out.table(
        "Tokens per second, and times as fast as the first with 95 % intervals",
        ["file", "prefill", "times", "decode", "times", "peak MiB", "cache B/token"],
        [_row(speed) for speed in found.files],
    )
    for note in found.notes:
        out.say(note)
    out.result(found.to_json())
    return EXIT_OK


def _row(speed: TokenSpeed) -> list[object]:
    return [
        f"{speed.name} (kernels)" if speed.kernels else speed.name,
        f"{speed.prefill_tokens_per_s:.1f}",
        _times(speed.prefill_ratio),
        f"{speed.decode_tokens_per_s:.1f}",
        _times(speed.decode_ratio),
        f"{speed.peak_mib:.0f}",
        f"{speed.cache_bytes_a_token:.0f}",
    ]


def _times(ratio: Interval | None) -> str | None:
    return None if ratio is None else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
