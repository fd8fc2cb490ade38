"""Command line of the peers: list, install, quantize."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.peers.catalogue import get_peer, load_catalogue
from benchmarks.peers.environments import install, is_installed
from benchmarks.peers.running import run_peer
from exporters.errors import EdgeportError


def show() -> None:
    """Every peer with its variants, and whether it is installed."""
    for peer in load_catalogue().values():
        state = "installed" if is_installed(peer) else "not installed"
        print(f"{peer.title} {peer.version} ({state})")
        for variant, meaning in peer.variants.items():
            print(f"  {peer.name}:{variant:<18} {meaning}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every peer and its variants")
    installing = commands.add_parser("install", help="make the environments of some peers, or all")
    installing.add_argument("names", nargs="*", metavar="PEER")
    quantizing = commands.add_parser("quantize", help="run one variant on one file")
    quantizing.add_argument("name", metavar="PEER:VARIANT")
    for path in ("model", "samples", "output"):
        quantizing.add_argument(path, type=Path)
    quantizing.add_argument("--count", type=int, help="at most so many samples")
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            show()
        elif arguments.command == "install":
            for name in arguments.names or load_catalogue():
                print(f"{name}: {install(get_peer(name))}")
        else:
            result = run_peer(
                arguments.name,
                arguments.model,
                arguments.samples,
                arguments.output,
                count=arguments.count,
            )
            print(json.dumps(result.to_json(), indent=2))
            if result.error:
                print(result.log, file=sys.stderr)
                return 1
    except EdgeportError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
