"""A job from upload to result. The board works on its own; the connection is only a window.

    connect -> probe -> upload what is missing -> start the runner, detached -> read its log
            -> download the outputs -> remove the job's folder

When the connection breaks, a new one goes on where the last one was: half an upload is continued,
a running job is found again by its folder, and its log is read from the last byte seen.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import shlex
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from deploy.boards.address import Address, WorkerAddress
from deploy.boards.bundling import runner, runner_name
from deploy.boards.connection import Access, Connection, ConnectionBrokenError, Progress
from deploy.boards.jobs import Job, job_json
from deploy.boards.placing import Placed, place
from deploy.boards.room import require_room
from exporters.errors import EdgeportError, MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file
from runtimes.base import Array
from runtimes.measuring import read_feeds

Event = dict[str, Any]
Value = TypeVar("Value")

ATTEMPTS = 6
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_POLL_S = 0.25


@dataclass
class BoardRun:
    """What came back from a board.

    Attributes:
        board: what the board said of itself.
        events: every line of its log.
        outputs: by case, one dict of arrays a sample; empty unless they were asked for.
        reconnects: how often the connection broke and was made again.
    """

    address: Address | WorkerAddress
    board: Mapping[str, Any]
    events: list[Event] = field(default_factory=list)
    outputs: dict[str, list[dict[str, Array]]] = field(default_factory=dict)
    reconnects: int = 0

    def of(self, event: str) -> list[Event]:
        return [entry for entry in self.events if entry["event"] == event]


def run_on_board(
    address: Address, job: Job, access: Access | None = None, progress: Progress | None = None
) -> BoardRun:
    """Do ``job`` on the board at ``address``.

    Raises:
        MissingRequirementError: no connection, no room, or the board lacks what the job needs.
        UserError: the board refused a model or a sample.
    """
    return asyncio.run(Errand(address, access or Access(), progress).run(job))


class Errand:
    """One job on one board, over as many connections as it takes."""

    def __init__(self, address: Address, access: Access, progress: Progress | None) -> None:
        self._address = address
        self._access = access
        self._progress = progress or (lambda _phase, _done, _total: None)
        self._result = BoardRun(address, {})
        self._cache = ""
        self._folder = ""
        self._log = b""

    async def run(self, job: Job) -> BoardRun:
        await self._again(self._probe)
        with tempfile.TemporaryDirectory(prefix="edgeport-board-") as scratch:
            placed = placed_cases(job, self._runtimes, self._cache, Path(scratch))
            feeds, files = files_of(job, placed)
            request = job_json(job, [case.plan for case in placed], feeds, self._cache)
            self._folder = f"{self._cache}/jobs/{secrets.token_hex(8)}"
            try:
                await self._again(lambda connection: self._upload(connection, files))
                await self._again(lambda connection: self._start(connection, request))
                await self._again(self._follow)
                await self._again(self._fetch)
            finally:
                await self._forget()
        return self._result

    @property
    def _runtimes(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self._result.board["runtimes"]
        return found

    async def _again(self, step: Callable[[Connection], Awaitable[None]]) -> None:
        """Do ``step`` on a connection of its own, and once more on a new one when that breaks."""
        for attempt in range(ATTEMPTS):
            try:
                async with Connection(self._address, self._access) as connection:
                    await step(connection)
            except ConnectionBrokenError:
                if attempt == ATTEMPTS - 1:
                    raise
                self._result.reconnects += 1
                await asyncio.sleep(_PAUSES_S[attempt])
            else:
                return

    async def _probe(self, connection: Connection) -> None:
        home = (await connection.require("pwd")).strip()
        self._cache = str(PurePosixPath(home) / self._access.cache)
        await connection.require("mkdir", "-p", *(f"{self._cache}/{d}" for d in ("files", "jobs")))
        await self._send(connection, runner_name(), runner())
        said = await connection.run(
            self._access.python, f"{self._cache}/files/{runner_name()}", "probe"
        )
        self._result.board = usable(str(self._address), said.code, said.out, said.err)

    async def _upload(self, connection: Connection, files: Mapping[str, bytes | Path]) -> None:
        missing = {
            name: data
            for name, data in files.items()
            if not await self._has(connection, name, data)
        }
        await require_room(connection, self._cache, sum(_size(data) for data in missing.values()))
        for name, data in missing.items():
            remote = f"{self._cache}/files/{name}"
            await connection.upload(data, remote, _size(data), self._progress)

    async def _send(self, connection: Connection, name: str, data: bytes | Path) -> None:
        """A file under its hash, unless the board has it with this very size."""
        if not await self._has(connection, name, data):
            remote = f"{self._cache}/files/{name}"
            await connection.upload(data, remote, _size(data), self._progress)

    async def _has(self, connection: Connection, name: str, data: bytes | Path) -> bool:
        there = await connection.run("stat", "-c", "%s", f"{self._cache}/files/{name}")
        return there.code == 0 and int(there.out) == _size(data)

    async def _start(self, connection: Connection, request: Mapping[str, Any]) -> None:
        """Start the runner so that it outlives the connection; once, however often this is done."""
        await connection.require("mkdir", "-p", self._folder)
        job = json.dumps(request).encode()
        await connection.upload(job, f"{self._folder}/job.json", len(job))
        pyz = f"{self._cache}/files/{runner_name()}"
        script = (
            f"cd {self._folder} && mkdir started 2>/dev/null || exit 0; "
            f"setsid nohup {shlex.quote(self._access.python)} {pyz} job {self._folder} "
            f"</dev/null >{self._folder}/stdout 2>&1 & echo $! >{self._folder}/pid"
        )
        await connection.shell(script)

    async def _follow(self, connection: Connection) -> None:
        """Read the log until it says how the job ended."""
        silent = 0
        while True:
            new = await connection.read_from(f"{self._folder}/log.jsonl", len(self._log))
            whole = new[: new.rfind(b"\n") + 1]  # a line may be half written
            self._log += whole
            for line in whole.splitlines():
                if self._heard(json.loads(line)):
                    return
            silent = 0 if whole else silent + 1
            if silent and silent % 20 == 0:
                await self._require_alive(connection)
            await asyncio.sleep(_POLL_S)

    def _heard(self, event: Event) -> bool:
        """Note one event; whether it was the last."""
        self._result.events.append(event)
        require_no_error(str(self._address), event)
        if event["event"] == "run":
            self._progress("measure", event["round"] + 1, 0)
        elif event["event"] == "sample":
            self._progress(f"run {event['case']}", event["done"], event["total"])
        elif event["event"] == "phase":
            self._progress(event["phase"], 0, 0)
        elif event["event"] in ("building", "loading", "waiting"):
            self._progress(f"{event['event']} {event.get('case', '')}".strip(), 0, 0)
        return bool(event["event"] == "end")

    async def _require_alive(self, connection: Connection) -> None:
        alive = await connection.shell(f"kill -0 $(cat {self._folder}/pid) 2>/dev/null")
        if alive.code == 0:
            return
        left = await connection.read_from(f"{self._folder}/log.jsonl", len(self._log))
        if left:
            return  # it ended between two looks
        said = (await connection.run("tail", "-c", "600", f"{self._folder}/stdout")).out.strip()
        raise MissingRequirementError(
            f"{self._address}: the run ended without a word (killed, or out of memory)"
            + (f": {said}" if said else ""),
            fix=f"Look there: ssh {self._address.host} dmesg | tail",
        )

    async def _fetch(self, connection: Connection) -> None:
        for event in self._result.of("outputs"):
            with tempfile.TemporaryDirectory(prefix="edgeport-board-") as scratch:
                local = Path(scratch) / "outputs.npz"
                await connection.download(f"{self._folder}/{event['file']}", local)
                if sha256_file(local) != event["sha256"]:
                    raise ConnectionBrokenError(
                        f"the outputs of {event['case']} came damaged from {self._address}",
                        fix="Run it again",
                    )
                self._result.outputs[event["case"]] = read_feeds(local)

    async def _forget(self) -> None:
        """Remove the job's folder, ending what still runs in it; a board that is gone is left."""
        if not self._folder:
            return
        script = (
            f"pid=$(cat {self._folder}/pid 2>/dev/null) && kill -- -$pid 2>/dev/null; "
            f"rm -rf {self._folder}"
        )
        try:
            async with Connection(self._address, self._access) as connection:
                await connection.shell(script)
        except EdgeportError:
            return


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def usable(address: str, code: int, out: str, err: str) -> dict[str, Any]:
    """What a board said of itself when its runner was asked.

    Raises:
        MissingRequirementError: its Python does not run the runner, or has no numpy.
    """
    if code != 0:
        raise MissingRequirementError(
            f"{address} cannot run the benchmark: "
            f"{err.strip().splitlines()[-1] if err.strip() else code}",
            fix="The board needs python3 (3.8 or newer) with numpy: "
            "sudo apt-get install python3-numpy",
        )
    board: dict[str, Any] = json.loads(out)
    if "numpy" not in board["runtimes"]:
        raise MissingRequirementError(
            f"{address} has no numpy for its python3",
            fix="There: sudo apt-get install python3-numpy",
        )
    return board


def require_no_error(address: str, event: Event) -> None:
    """Raise what the runner has told as its last word, if it is an error."""
    if event["event"] == "error":
        kind = EdgeportError if event.get("bug") else UserError
        raise kind(f"{address}: {event['message']}", fix=event["fix"])


def placed_cases(job: Job, runtimes: Mapping[str, str], cache: str, scratch: Path) -> list[Placed]:
    """Every case as it runs on a board, with rewritten models in ``scratch``."""
    found = []
    for index, case in enumerate(job.cases):
        folder = scratch / str(index)
        folder.mkdir()
        found.append(place(case, runtimes, cache, folder))
    return found


def files_of(job: Job, placed: Sequence[Placed]) -> tuple[str, dict[str, bytes | Path]]:
    """All that the board's cache must have, by name, and which of it are the samples."""
    feeds = _archive(job)
    name = f"{sha256_bytes(feeds)}.npz"
    files: dict[str, bytes | Path] = {runner_name(): runner(), name: feeds}
    for case in placed:
        files |= case.files
    files |= job.frames.files if job.frames else {}
    return name, files


def _archive(job: Job) -> bytes:
    """All samples as ``onboard.jobs.read_feeds`` takes them."""
    arrays: dict[str, Any] = {
        f"{index}:{name}": value
        for index, sample in enumerate(job.samples)
        for name, value in sample.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
