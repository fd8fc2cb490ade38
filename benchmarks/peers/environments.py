"""A virtual environment for each peer, made when it is first asked for.

An environment counts as there when its marker names the very pins of ``peers.toml``; it is written
last, so an interrupted installation is made again and a changed pin is never missed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.catalogue import Peer
from exporters.errors import MissingRequirementError

CACHE_VARIABLE = "EDGEPORT_PEERS"
_MARKER = "installed.txt"


def cache_folder() -> Path:
    """Where environments live: ``EDGEPORT_PEERS``, or ``~/.cache/edgeport/peers``."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "edgeport" / "peers"


def is_installed(peer: Peer, cache: Path | None = None) -> bool:
    marker = (cache or cache_folder()) / peer.name / _MARKER
    return marker.is_file() and marker.read_text(encoding="utf-8") == _pins(peer)


def install(peer: Peer, cache: Path | None = None) -> Path:
    """The Python of ``peer``'s environment, which is made if it is not there.

    Raises:
        MissingRequirementError: no Python of that version here, or a package cannot be had.
    """
    folder = (cache or cache_folder()) / peer.name
    python = folder / "bin" / "python"
    if is_installed(peer, cache):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([find_python(peer.python), "-m", "venv", str(folder)], peer)
    requirements = folder / "requirements.txt"
    requirements.write_text(_pins(peer), encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps"]
    _run([*pip, "--requirement", str(requirements)], peer)
    (folder / _MARKER).write_text(_pins(peer), encoding="utf-8")
    return python


def find_python(version: str) -> str:
    """An interpreter of minor version ``version``: this one, or one on the path.

    Raises:
        MissingRequirementError: there is none.
    """
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        raise MissingRequirementError(
            f"the peers are pinned for Python {version}, and no python{version} is on the path",
            fix=f"Install Python {version}",
        )
    return found


def _pins(peer: Peer) -> str:
    return "\n".join(peer.packages) + "\n"


def _run(command: list[str], peer: Peer) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise MissingRequirementError(
            f"the environment of {peer.title} cannot be made: {' '.join(last)}",
            fix=f"See what is wrong with: {' '.join(command)}",
        )
