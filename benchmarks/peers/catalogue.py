"""The peers and their pins, read from ``peers.toml``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from exporters.errors import UserError, did_you_mean

CATALOGUE = Path(__file__).with_name("peers.toml")
SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Peer:
    """One tool with its environment.

    Attributes:
        title: its name in tables.
        package: the distribution whose version is the tool's.
        packages: exact pins of everything in its environment.
        python: the Python minor version that the pins were made for.
        variants: names of settings, with what they are.
        note: what was left out of the environment and why.
    """

    name: str
    title: str
    package: str
    packages: tuple[str, ...]
    python: str
    variants: dict[str, str]
    note: str = ""

    @property
    def version(self) -> str:
        return next(p.split("==")[1] for p in self.packages if p.startswith(f"{self.package}=="))

    @property
    def script(self) -> Path:
        """The file that runs the tool, inside its environment."""
        return SCRIPTS / f"with_{self.name}.py"


@cache
def load_catalogue(path: Path = CATALOGUE) -> dict[str, Peer]:
    """All peers by name."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    python = table.pop("python")
    return {
        name: Peer(
            name=name,
            title=row["title"],
            package=row["package"],
            packages=tuple(row["packages"]),
            python=python,
            variants=dict(row["variants"]),
            note=row.get("note", ""),
        )
        for name, row in table.items()
    }


def peer_and_variant(name: str) -> tuple[Peer, str]:
    """The peer and the setting that ``nncf:mixed`` stands for.

    Raises:
        UserError: no such peer or variant.
    """
    tool, _, variant = name.partition(":")
    peer = get_peer(tool)
    if variant not in peer.variants:
        raise UserError(
            f"{peer.title} has no variant {variant!r} here",
            fix=did_you_mean(variant, peer.variants),
        )
    return peer, variant


def get_peer(name: str) -> Peer:
    """The peer called ``name``.

    Raises:
        UserError: there is none.
    """
    peers = load_catalogue()
    if name not in peers:
        raise UserError(f"unknown peer {name!r}", fix=did_you_mean(name, peers))
    return peers[name]
