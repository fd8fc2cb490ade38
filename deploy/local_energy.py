"""``edgeport bench --energy`` on this machine: the board's sampler and arithmetic, without a board.

After the latencies were taken in turns nothing runs for some seconds (the idle power), then each
file runs alone, in a process of its own. NVIDIA GPUs are read through nvidia-ml-py, CPUs through
their RAPL counters; what cannot be read is said to be so, with the reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from deploy.boards.address import Address
from deploy.boards.bundling import runner
from deploy.boards.energy import EnergyReport, energies_of
from deploy.boards.jobs import TELEMETRY_PERIOD_S, EnergyPlan
from deploy.boards.onboard.blocks import run_blocks
from deploy.boards.onboard.journal import Journal
from deploy.boards.onboard.telemetry import Telemetry
from deploy.boards.running import BoardRun
from deploy.boards.showing import ENERGY_COLUMNS, energy_lines, energy_row
from deploy.console import Output
from runtimes.base import Progress
from runtimes.benchmark import Case, load_case, open_worker, require_cases
from runtimes.workers import Worker


def measure_energy(
    cases: Sequence[Case], plan: EnergyPlan, progress: Progress | None = None, root: str = "/"
) -> EnergyReport:
    """Joules per frame of ``cases``, or why there are none; frame rates in any case.

    Args:
        root: where the machine's ``/sys`` and ``/proc`` are.

    Raises:
        UserError, MissingRequirementError: as ``runtimes.bench``.
    """
    require_cases(cases)
    with tempfile.TemporaryDirectory(prefix="edgeport-energy-") as folder:
        pyz = Path(folder, "runner.pyz")
        pyz.write_bytes(runner())
        log = Journal(str(Path(folder, "log.jsonl")))
        options = {"root": root, "period_s": TELEMETRY_PERIOD_S}
        try:
            with ExitStack() as stack:
                workers = [stack.enter_context(open_worker(case)) for case in cases]
                for worker, case in zip(workers, cases, strict=True):
                    load_case(worker, case, Path(folder, "feeds.npz"))
                stack.enter_context(Telemetry(folder, options, [sys.executable, str(pyz)]))
                sessions = [_Alone(worker) for worker in workers]
                if progress:
                    progress("energy", 0, 0)
                run_blocks(sessions, list(range(len(cases[0].samples))), asdict(plan), log, root)
        finally:
            log.close()
        lines = Path(folder, "log.jsonl").read_text(encoding="utf-8").splitlines()
    report = energies_of(BoardRun(Address("localhost"), {}, [json.loads(line) for line in lines]))
    assert report is not None  # there were blocks
    return report


def show_energy(out: Output, cases: Sequence[Case], report: EnergyReport) -> None:
    """One table, and where its numbers come from."""
    rows = [
        [case.name, *energy_row(energy)] for case, energy in zip(cases, report.cases, strict=True)
    ]
    out.table("Energy, each file running alone, with bounds", ENERGY_COLUMNS[1:], rows)
    for line in energy_lines(report):
        out.say(line)


class _Alone:
    """A loaded case as the sessions that ``run_blocks`` takes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def time(self, sample: int) -> None:
        self._worker.request({"do": "run", "sample": sample})
