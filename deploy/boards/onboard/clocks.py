"""Clocks held for a run, and given back whatever happens: ``runner.pyz watchdog RECORD``.

    store -> nvpmodel -m MODE (if asked) -> jetson_clocks -> the job -> nvpmodel -m OLD -> restore

The watchdog is started before anything is changed. It waits at the end of a pipe that only the
runner holds: when the runner ends, killed or not, the kernel closes the pipe and the watchdog
restores. It is a session of its own, so that neither the end of the connection nor that of the
job's process group reaches it. A record that is still there, after the power was cut, is restored
by the next job. Evidence: written; the tests run it with scripts in place of
``nvpmodel`` and ``jetson_clocks``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from types import TracebackType
from typing import Any, Dict, List, Optional, Tuple, Type

from .journal import BoardError, Journal
from .telemetry import runner_command

_RESTORE_S = 30.0
_COMMAND_S = 60.0
_SUDO_FIX = (
    'Allow it there without a password: echo "$USER ALL=(root) NOPASSWD: $(command -v '
    'jetson_clocks), $(command -v nvpmodel)" | sudo tee /etc/sudoers.d/edgeport'
)


class HeldClocks:
    """Highest clocks of a power mode within the block; ``options`` None leaves all as it is.

    Args:
        options: ``mode``, an id of nvpmodel or None for the one that is set.
        cache: folder on the board for the record, which outlives the job's folder.
        lock: the board's lock, which the watchdog holds too, so that nobody measures before the
            clocks are as they were.
    """

    def __init__(
        self, options: Optional[Dict[str, Any]], cache: str, folder: str, log: Journal, lock: int
    ) -> None:
        self._options = options
        self._records = os.path.join(cache, "clocks")
        self._folder = folder
        self._log = log
        self._lock = lock
        self._watchdog: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> None:
        self._restore_left_over()
        if self._options is None:
            return
        _require("jetson_clocks")
        os.makedirs(self._records, exist_ok=True)
        mode = self._options.get("mode")
        stored = os.path.join(self._records, f"{os.getpid()}.conf")
        record = {
            "stored": stored,
            "mode": None if mode is None else power_mode_id(),
            "log": os.path.join(self._folder, "log.jsonl"),
        }
        if os.path.exists(stored):
            os.unlink(stored)  # of a process long gone; jetson_clocks would ask
        _privileged("jetson_clocks", "--store", stored)
        path = os.path.join(self._records, f"{os.getpid()}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record, file)
        self._watchdog = subprocess.Popen(
            [*runner_command(), "watchdog", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            pass_fds=(self._lock,),
        )
        try:
            self._hold(mode)
        except BaseException:
            self._let_go()
            raise

    def _hold(self, mode: Optional[int]) -> None:
        if mode is not None:
            _privileged("nvpmodel", "-m", str(mode))
            if power_mode_id() != mode:
                raise BoardError(
                    f"nvpmodel did not change to mode {mode}, which may need a reboot",
                    "Change it there by hand: sudo nvpmodel -m MODE",
                )
        _privileged("jetson_clocks")
        self._log.write("clocks", held=True, mode=mode)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Close the pipe and wait until the watchdog has restored."""
        if self._watchdog is None:
            return
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(timeout=_RESTORE_S + _COMMAND_S)

    def _restore_left_over(self) -> None:
        """Undo all records: we hold the board's lock, so nobody is at work who wrote one."""
        if not os.path.isdir(self._records):
            return
        for name in sorted(os.listdir(self._records)):
            if name.endswith(".json"):
                failures = restore(os.path.join(self._records, name))
                self._log.write(
                    "clocks", held=False, restored=not failures, failures=failures, left_over=True
                )


def watch(record: str) -> None:
    """Wait for the runner's end, then restore; what the watchdog's process does."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    with open(record, encoding="utf-8") as file:
        path = json.load(file)["log"]
    failures = restore(record)
    try:
        log = Journal(path)
    except OSError:
        return  # the job's folder is gone, and with it whoever would read this
    log.write("clocks", held=False, restored=not failures, failures=failures)
    log.close()


def restore(path: str) -> List[str]:
    """Undo what the record at ``path`` says and remove it; what failed, and it stays."""
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    failures: List[str] = []
    commands = [("jetson_clocks", "--restore", record["stored"])]
    if record["mode"] is not None:
        commands.insert(0, ("nvpmodel", "-m", str(record["mode"])))
    for command in commands:
        try:
            _privileged(*command)
        except BoardError as error:
            failures.append(error.message)
    if not failures:
        for left in (record["stored"], path):
            if os.path.exists(left):
                os.unlink(left)
    return failures


def power_mode_id() -> int:
    """The number in the last line of ``nvpmodel -q``."""
    _require("nvpmodel")
    code, said = _run(["nvpmodel", "-q"])
    last = said.strip().splitlines()[-1:] or [""]
    if code != 0 or not last[0].strip().isdigit():
        raise BoardError(f"nvpmodel -q did not say the power mode: {said.strip() or code}")
    return int(last[0])


def _privileged(program: str, *arguments: str) -> None:
    path = _require(program)
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    code, said = _run([*prefix, path, *arguments])
    if code != 0:
        words = " ".join(said.split())[-300:] or f"exit code {code}"
        raise BoardError(f"{program} {' '.join(arguments)} failed: {words}", _SUDO_FIX)


def _require(program: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/bin:/usr/sbin")
    if path is None:
        raise BoardError(
            f"the board has no {program}, so its clocks cannot be held",
            "Leave --lock-clocks away, or hold the clocks there by other means",
        )
    return path


def _run(command: List[str]) -> Tuple[int, str]:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")
