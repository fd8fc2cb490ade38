"""A real OpenSSH server on the loopback, with keys and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.boards.address import Address
from deploy.boards.connection import Access

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
MaxStartups 100
"""


@dataclass
class Board:
    """A server, and what a client needs to enter it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", getpass.getuser(), self.port)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def access(self, **changes: object) -> Access:
        values: dict[str, object] = {
            "identity": self.folder / "user_key",
            "known_hosts": self.folder / "known_hosts",
            "cache": str(self.cache),
            "python": sys.executable,
        }
        return Access(**{**values, **changes})  # type: ignore[arg-type]

    def start(self) -> None:
        with (self.folder / "sshd.log").open("ab") as log:
            command = [SSHD, "-D", "-e", "-f", self.folder / "sshd_config"]
            self.process = subprocess.Popen(command, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise RuntimeError((self.folder / "sshd.log").read_text())

    def cut(self) -> None:
        """Break every connection; the server goes on and takes new ones."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def stop(self) -> None:
        self.cut()
        assert self.process is not None
        self.process.terminate()
        self.process.wait()


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@contextlib.contextmanager
def running_board(folder: Path) -> Iterator[Board]:
    for name in ("host_key", "user_key"):
        make_key(folder / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")
    (folder / "sshd_config").write_text(_CONFIGURATION.format(port=port, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # where it drops its privileges to, as root
    board = Board(folder, port)
    board.start()
    try:
        yield board
    finally:
        board.stop()
