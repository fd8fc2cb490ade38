"""Where a board is: ``ssh://user@host:port``, or a worker of a Dask cluster."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from exporters.errors import UserError

SCHEME = "ssh"
_EXAMPLE = "Write it as ssh://user@host or ssh://user@host:port"


@dataclass(frozen=True)
class Address:
    """A board's address; what is None comes from the user's SSH configuration.

    Attributes:
        host: name or address, or a ``Host`` of ``~/.ssh/config``.
    """

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}://{user}{host}" + (f":{self.port}" if self.port else "")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``ssh://user@host:port``.

        Raises:
            UserError: another scheme, no host, a password or a path in it, a port out of range.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise UserError(f"{text!r} is no board address: {error}", fix=_EXAMPLE) from error
        if parts.scheme != SCHEME or not parts.hostname:
            raise UserError(f"{text!r} is no board address", fix=_EXAMPLE)
        if parts.password is not None:
            raise UserError(
                f"the address of board {parts.hostname} holds a password",
                fix="Use a key: ssh-copy-id USER@HOST; passwords end up in logs and histories",
            )
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise UserError(f"{text!r} has something behind the host", fix=_EXAMPLE)
        return cls(parts.hostname, parts.username, port)


@dataclass(frozen=True)
class WorkerAddress:
    """A board that is a worker of a Dask cluster.

    Attributes:
        scheduler: ``tcp://host:port`` of the cluster.
        worker: address by which the scheduler knows the board.
    """

    scheduler: str
    worker: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.worker})"
