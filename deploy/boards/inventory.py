"""Which boards: addresses on the command line, or a YAML file with a name for each of many.

boards:
orin-1: {address: "ssh://nvidia@192.168.1.7"}
thor: {address: "ssh://nvidia@thor.local:2222", python: venv/bin/python}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.boards.address import SCHEME, Address, WorkerAddress
from deploy.boards.connection import Access
from deploy.boards.fleet import fleet
from deploy.strict import explain
from deploy.yamlfile import read_yaml
from exporters.errors import UserError

CLUSTERS = ("tcp://", "tls://")


@dataclass(frozen=True)
class Board:
    """A board by the name that its results carry."""

    name: str
    address: Address | WorkerAddress
    access: Access


class BoardEntry(BaseModel):
    """One board of an inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(description="ssh://user@host:port, or a Host of the SSH configuration")
    identity: Path | None = Field(None, description="private key; else the user's agent and keys")
    known_hosts: Path | None = Field(None, description="file of host keys; else the user's")
    python: str | None = Field(None, description="interpreter on the board, with numpy")
    cache: str | None = Field(None, description="folder on the board, from its user's home")


class Inventory(BaseModel):
    """An inventory file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boards: dict[str, BoardEntry] = Field(min_length=1)


def find_boards(sources: Sequence[str], access: Access | None = None) -> list[Board]:
    """The boards that ``sources``, addresses, clusters and inventory files, name; in order.

    Args:
        access: what holds for all of them; an inventory's entry goes first.

    Raises:
        UserError: no address and no readable inventory, or the same board twice.
        MissingRequirementError: a cluster that does not answer or has no boards.
    """
    access = access or Access()
    found: list[Board] = []
    for source in sources:
        if source.startswith(f"{SCHEME}://"):
            address = Address.parse(source)
            found.append(Board(address.host, address, access))
        elif source.startswith(CLUSTERS):
            found += [Board(one.name, one, access) for one in fleet(source)]
        elif Path(source).is_file():
            found += _read(Path(source), access)
        else:
            raise UserError(
                f"{source!r} is neither a board's address nor an inventory file",
                fix="Write ssh://user@host, tcp://host:port of a Dask scheduler, or the path of a "
                "YAML file with boards",
            )
    return _distinct(found)


def one_board(source: str, access: Access | None = None) -> Board:
    """The board that ``source`` names.

    Raises:
        UserError: as ``find_boards``, and for an inventory of several.
    """
    boards = find_boards([source], access)
    if len(boards) > 1:
        raise UserError(
            f"{source} has {len(boards)} boards ({', '.join(b.name for b in boards)}), "
            "one is needed",
            fix="Name one by its address: --board ssh://user@host",
        )
    return boards[0]


def _read(path: Path, access: Access) -> list[Board]:
    data, lines = read_yaml(path)
    try:
        inventory = Inventory.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Inventory, lines)}", fix="Correct it") from error
    boards = []
    for name, entry in inventory.boards.items():
        own = entry.model_dump(exclude={"address"}, exclude_none=True)
        boards.append(Board(name, Address.parse(entry.address), replace(access, **own)))
    return boards


def _distinct(boards: list[Board]) -> list[Board]:
    """The boards with names that differ: the whole address where two hosts are called alike."""
    addresses = [board.address for board in boards]
    for address in addresses:
        if addresses.count(address) > 1:
            raise UserError(f"board {address} is given twice", fix="Name it once")
    names = [board.name for board in boards]
    return [
        board if names.count(board.name) == 1 else replace(board, name=str(board.address))
        for board in boards
    ]
