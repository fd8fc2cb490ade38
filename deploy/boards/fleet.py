"""A fleet of boards as the workers of a Dask cluster, for more boards than one types addresses of.

    dask worker tcp://host:8786 --name orin-17 --nthreads 1 --resources board=1       on each board

Workers with the resource ``board`` are boards. A worker needs ``dask``, ``distributed``, numpy and
its runtime, but no edgeport: what it does is sent to it, and the runner is the one that SSH starts.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibration.samples.cluster import connected
from deploy.boards import onworker
from deploy.boards.address import WorkerAddress
from deploy.boards.bundling import runner, runner_name
from deploy.boards.connection import Access, Progress
from deploy.boards.jobs import Job, job_json
from deploy.boards.running import BoardRun, files_of, placed_cases, require_no_error, usable
from exporters.errors import MissingRequirementError, UserError
from runtimes.measuring import read_feeds

RESOURCE = "board"


def fleet(scheduler: str) -> list[WorkerAddress]:
    """The boards of a cluster, by name.

    Raises:
        MissingRequirementError: nobody answers there, or no worker is a board.
    """
    with connected(scheduler) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    boards = [
        WorkerAddress(scheduler, address, str(facts["name"]))
        for address, facts in workers.items()
        if facts.get("resources", {}).get(RESOURCE)
    ]
    if not boards:
        raise MissingRequirementError(
            f"none of the {len(workers)} workers of {scheduler} is a board",
            fix=f"On each board: dask worker {scheduler} --name NAME --nthreads 1 "
            f"--resources {RESOURCE}=1",
        )
    return sorted(boards, key=lambda board: board.name)


def run_on_worker(
    address: WorkerAddress, job: Job, access: Access, progress: Progress | None = None
) -> BoardRun:
    """Do ``job`` on one worker; the result is that of ``run_on_board``.

    Raises:
        MissingRequirementError: the worker is gone, or lacks what the job needs.
        UserError: the board refused a model or a sample.
    """
    result = BoardRun(address, {})
    tell = progress or (lambda _phase, _done, _total: None)
    with connected(address.scheduler) as client, tempfile.TemporaryDirectory() as scratch:
        worker = _Worker(client, address)
        said = worker(onworker.probe, access.python, access.cache, runner_name(), runner())
        result.board = usable(str(address), said["code"], said["out"], said["err"])
        cache = said["cache"]
        placed = placed_cases(job, result.board["runtimes"], cache, Path(scratch))
        feeds, files = files_of(job, placed)
        absent = worker(onworker.missing, cache, {n: _size(data) for n, data in files.items()})
        for done, name in enumerate(absent):
            tell("upload", done, len(absent))
            worker(onworker.store, cache, name, _bytes(files[name]))
        tell("measure", 0, 0)
        request = job_json(job, [case.plan for case in placed], feeds, cache)
        came = worker(onworker.run, access.python, cache, runner_name(), request, busy=True)
    for line in came["log"].splitlines():
        event = json.loads(line)
        result.events.append(event)
        require_no_error(str(address), event)
    if not result.events or result.events[-1]["event"] != "end":
        raise MissingRequirementError(
            f"{address}: the run ended without a word (killed, or out of memory): {came['said']}",
            fix="Look at the board's memory, and at the worker's own log",
        )
    for event in result.of("outputs"):
        result.outputs[event["case"]] = _arrays(came["files"][event["file"]])
    return result


class _Worker:
    """Calls a function on one worker and waits for its result."""

    def __init__(self, client: Any, address: WorkerAddress) -> None:
        import cloudpickle

        cloudpickle.register_pickle_by_value(onworker)  # workers have no edgeport
        self._client = client
        self._address = address

    def __call__(self, function: Callable[..., Any], *arguments: Any, busy: bool = False) -> Any:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        (sent,) = self._client.scatter([arguments], workers=[self._address.worker], hash=False)
        future = self._client.submit(
            onworker.call,
            function,
            sent,
            workers=[self._address.worker],
            resources={RESOURCE: 1} if busy else None,
            pure=False,
        )
        try:
            return future.result()
        except (KilledWorker, FutureCancelledError) as error:
            raise MissingRequirementError(
                f"{self._address}: its Dask worker died",
                fix="Look at its log there: short memory is the usual reason",
            ) from error
        except OSError as error:
            raise UserError(f"on {self._address}: {error}", fix="Check its disk: df -h") from error
        finally:
            future.release()


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _bytes(data: bytes | Path) -> bytes:
    return data if isinstance(data, bytes) else data.read_bytes()


def _arrays(archive: bytes) -> list[dict[str, Any]]:
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(archive)
        file.flush()
        return read_feeds(Path(file.name))
