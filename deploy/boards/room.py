"""Is there room on the board? Asked before the first byte, not when the disk is full."""

from __future__ import annotations

from deploy.boards.connection import Connection
from exporters.errors import MissingRequirementError

SPARE_MIB = 16
"""For logs and telemetry of a job."""


async def require_room(connection: Connection, folder: str, size_bytes: int) -> None:
    """Refuse to upload what does not fit; engines and outputs need room beside it.

    Raises:
        MissingRequirementError: says how much is free and how much is needed.
    """
    said = await connection.run("df", "-Pk", folder)
    lines = said.out.splitlines()
    if said.code != 0 or len(lines) < 2:
        return  # a board without df finds out while it writes
    free_mib = int(lines[-1].split()[3]) >> 10
    needed_mib = (size_bytes >> 20) + SPARE_MIB
    if free_mib < needed_mib:
        raise MissingRequirementError(
            f"{connection.address} has {free_mib} MiB free for {folder}, "
            f"the files need {needed_mib} MiB",
            fix=f"Make room there: ssh {connection.address.host} rm -r {folder}; "
            "or take another disk with --board-cache",
        )
