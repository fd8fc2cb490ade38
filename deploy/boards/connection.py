"""One SSH connection to a board: commands, files by hash, and what went wrong in words.

OpenSSH's protocol through asyncssh: the user's keys, agent, configuration and known hosts. A host
key that is unknown or has changed is refused, as ssh does without a terminal.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.boards.address import Address
from exporters.errors import EdgeportError, MissingRequirementError, UserError

Progress = Callable[[str, int, int], None]

CONNECT_TIMEOUT_S = 20.0
_KEEPALIVE_S = 10.0
_BLOCK = 1 << 18


class ConnectionBrokenError(EdgeportError):
    """The connection ended in the middle; the same may succeed on a new one."""


@dataclass(frozen=True)
class Access:
    """How a board is entered and where things lie on it.

    Attributes:
        identity: private key; None for the user's agent and default keys.
        known_hosts: file of host keys; None for the user's.
        cache: folder on the board, relative to the home of its user, or absolute.
        python: interpreter on the board, 3.8 or newer with numpy.
    """

    identity: Path | None = None
    known_hosts: Path | None = None
    cache: str = ".cache/edgeport"
    python: str = "python3"

    def arguments(self) -> dict[str, Any]:
        """For ``asyncssh.connect``; what is left out comes from the user's SSH configuration."""
        given: dict[str, Any] = {}
        if self.identity is not None:
            given["client_keys"] = [str(self.identity)]
        if self.known_hosts is not None:
            given["known_hosts"] = str(self.known_hosts)
        return given


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str


class Connection:
    """Use it as an async context manager.

    Raises:
        MissingRequirementError: asyncssh is missing, the board is not there, refuses the user, or
            shows another host key than the one that is known.
        ConnectionBrokenError: later, when the connection ends while it is used.
    """

    def __init__(self, address: Address, access: Access | None = None) -> None:
        self.address = address
        self.access = access or Access()
        self._connection: Any = None

    async def __aenter__(self) -> Connection:
        asyncssh = import_asyncssh()
        given = {"username": self.address.user, "port": self.address.port}
        known = {key: value for key, value in given.items() if value is not None}
        try:
            self._connection = await asyncssh.connect(
                self.address.host,
                connect_timeout=CONNECT_TIMEOUT_S,
                keepalive_interval=_KEEPALIVE_S,
                **known,
                **self.access.arguments(),
            )
        except (OSError, asyncio.TimeoutError, asyncssh.Error) as error:
            raise _refused(self.address, error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        await self._connection.wait_closed()

    async def run(self, *command: str) -> Finished:
        """Run one command in the user's home."""
        return await self.shell(shlex.join(command))

    async def shell(self, script: str) -> Finished:
        with _broken(self.address):
            done = await self._connection.run(script, check=False)
        if done.exit_status is None:
            raise ConnectionBrokenError(f"the connection to {self.address} broke in a command")
        return Finished(done.exit_status, str(done.stdout), str(done.stderr))

    async def require(self, *command: str) -> str:
        """The output of a command that must succeed."""
        done = await self.run(*command)
        if done.code != 0:
            words = done.err.strip() or done.out.strip() or f"exit code {done.code}"
            raise MissingRequirementError(
                f"on {self.address}: {shlex.join(command)[:120]} failed: {words}",
                fix="Try it there by hand: " + shlex.join(["ssh", self.address.host]),
            )
        return done.out

    async def upload(
        self, data: bytes | Path, remote: str, size: int, progress: Progress | None = None
    ) -> None:
        """Write ``remote``, going on where an earlier upload of it stopped.

        Raises:
            MissingRequirementError: the board's disk is full, or may not be written.
        """
        asyncssh = import_asyncssh()
        partial = remote + ".partial"
        with _broken(self.address):
            async with self._connection.start_sftp_client() as sftp:
                try:
                    offset = await _size(sftp, partial)
                    offset = offset if offset <= size else 0
                    async with sftp.open(partial, "r+b" if offset else "wb") as file:
                        for start in range(offset, size, _BLOCK):
                            await file.write(_block(data, start), offset=start)
                            if progress:
                                progress("upload", min(start + _BLOCK, size), size)
                    await sftp.posix_rename(partial, remote)
                except asyncssh.SFTPConnectionLost:
                    raise
                except asyncssh.SFTPError as error:
                    disk = await self.run("df", "-h", remote.rpartition("/")[0])
                    raise _unwritable(self.address, remote, error, disk.out) from error

    async def download(self, remote: str, local: Path) -> None:
        """Copy a file of the board to ``local``."""
        with _broken(self.address):
            async with self._connection.start_sftp_client() as sftp:
                await sftp.get(remote, local)

    async def read_from(self, remote: str, offset: int) -> bytes:
        """What ``remote`` holds from ``offset`` on; nothing if it is not there yet."""
        asyncssh = import_asyncssh()
        with _broken(self.address):
            async with self._connection.start_sftp_client() as sftp:
                try:
                    async with sftp.open(remote, "rb") as file:
                        found: bytes = await file.read(offset=offset)
                except asyncssh.SFTPNoSuchFile:
                    return b""
        return found


class _broken:  # noqa: N801 - used like a function
    """Within the block a lost connection is a ConnectionBrokenError."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncssh = import_asyncssh()
        lost = (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost, asyncssh.ChannelOpenError)
        if isinstance(error, (*lost, ConnectionError, BrokenPipeError)):
            raise ConnectionBrokenError(
                f"the connection to {self._address} broke: {error}",
                fix="Run it again: what is on the board is used again",
            ) from error


def import_asyncssh() -> Any:
    try:
        import asyncssh
    except ImportError as error:
        raise MissingRequirementError(
            "asyncssh is not installed; boards are reached with it",
            fix="pip install 'edgeport[board]'",
        ) from error
    return asyncssh


async def _size(sftp: Any, remote: str) -> int:
    asyncssh = import_asyncssh()
    try:
        return int((await sftp.stat(remote)).size or 0)
    except asyncssh.SFTPNoSuchFile:
        return 0


def _block(data: bytes | Path, start: int) -> bytes:
    if isinstance(data, bytes):
        return data[start : start + _BLOCK]
    with data.open("rb") as file:
        file.seek(start)
        return file.read(_BLOCK)


def _unwritable(
    address: Address, remote: str, error: Exception, disk: str
) -> MissingRequirementError:
    """SSH servers call a full disk a failure, so df's last line is told too."""
    line = " ".join(disk.strip().splitlines()[-1:]).strip()
    return MissingRequirementError(
        f"cannot write {remote} on {address}: {error}" + (f"; df there: {line}" if line else ""),
        fix=f"Make room there: ssh {address.host} df -h; or take another disk with --board-cache",
    )


def _refused(address: Address, error: BaseException) -> EdgeportError:
    """Why there is no connection, by what asyncssh or the system raised."""
    asyncssh = import_asyncssh()
    target = f"{address.user}@{address.host}" if address.user else address.host
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return MissingRequirementError(
            f"{address} shows a host key that is not the known one: {error}",
            fix=f"If it is a new board, look at its key and accept it: ssh {target}; "
            f"if it was flashed again: ssh-keygen -R {address.host} first",
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return MissingRequirementError(
            f"{address} refuses the user: {error}",
            fix=f"Give it your key: ssh-copy-id {target}",
        )
    if isinstance(error, asyncio.TimeoutError):
        return MissingRequirementError(
            f"{address} did not answer within {CONNECT_TIMEOUT_S:.0f} s",
            fix=f"Is it on, and in this network? ping {address.host}",
        )
    if isinstance(error, OSError):
        return MissingRequirementError(
            f"cannot reach {address}: {error.strerror or error}",
            fix=f"Is it on, and does sshd run there? ping {address.host}",
        )
    return UserError(f"no SSH connection to {address}: {error}", fix=f"Try it: ssh {target}")
