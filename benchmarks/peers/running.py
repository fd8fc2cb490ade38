"""One run of a peer, or of ours, as data: file, time, memory, or the error that came instead."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import peer_and_variant
from benchmarks.peers.environments import cache_folder, install, is_installed
from benchmarks.peers.supervised import Limits, Supervised, supervise
from exporters.errors import MissingRequirementError
from exporters.files import require_writable

THREADS = 2


@dataclass(frozen=True)
class PeerResult:
    """What came of one run.

    Attributes:
        name: ``nncf:mixed``, or ``edgeport`` for ours.
        output: the quantized file; None where ``error`` says why there is none.
        wall_s: of the whole process, imports included, as a user waits for it.
        quantize_s: of the tool alone, after its imports and after the samples were read; None for
            ours and for failures.
        peak_rss_gib: of the process and its children.
        samples: how many the tool was given.
        error: the exception, or the limit that was passed; empty on success.
        log: the end of what the tool printed, kept where it failed.
    """

    name: str
    version: str
    output: Path | None
    wall_s: float
    quantize_s: float | None
    peak_rss_gib: float
    samples: int | None
    error: str = ""
    log: str = ""

    def to_json(self) -> dict[str, Any]:
        """For a table: without the log, and the output as its size."""
        data = asdict(self)
        del data["log"], data["output"]
        data["mib"] = round(self.output.stat().st_size / 2**20, 2) if self.output else None
        return data


def run_peer(
    name: str,
    model: Path,
    samples: Path,
    output: Path,
    *,
    cache: Path | None = None,
    count: int | None = None,
    limits: Limits | None = None,
    python: Path | None = None,
) -> PeerResult:
    """Quantize ``model`` with the peer's variant ``name`` (``nncf:mixed``).

    Args:
        samples: a folder of ``.npz`` files, one sample each, keys named as the model's inputs.
        output: where the tool is to write; must not exist.
        cache: folder of environments; see ``environments.cache_folder``.
        count: at most so many samples, the first ones; None for all.
        python: an interpreter that has the tool, in place of the peer's own environment.

    Raises:
        UserError: no such peer or variant, or ``output`` exists.
        MissingRequirementError: the environment is not there.
    """
    peer, variant = peer_and_variant(name)
    require_writable(output)
    if python is None:
        if not is_installed(peer, cache):
            raise MissingRequirementError(
                f"{peer.title} has no environment in {cache or cache_folder()}",
                fix=f"python -m benchmarks.peers install {peer.name}",
            )
        python = install(peer, cache)
    with tempfile.TemporaryDirectory(prefix="edgeport-peer-") as scratch:
        # a copy: some tools rewrite the file that they are given
        copy = _alone(model, Path(scratch)) / model.name
        report = Path(scratch) / "report.json"
        words = [variant, copy, samples.resolve(), output.resolve(), report, count or 0]
        command = [str(python), str(peer.script), *map(str, words)]
        seen = _run(command, limits, Path(scratch))
        told = json.loads(report.read_text()) if report.is_file() else {}
    return _result(name, peer.version, output, seen, told)


def run_edgeport(
    model: Path,
    samples: Path,
    output: Path,
    *arguments: str,
    name: str = "edgeport",
    limits: Limits | None = None,
) -> PeerResult:
    """Quantize with ``edgeport quantize`` in a process of its own, measured as a peer is.

    Args:
        arguments: further words of the command line, such as ``--scales auto``.
    """
    from importlib import metadata

    require_writable(output)
    code = "import sys; from deploy.cli import main; sys.exit(main())"
    paths = [str(path.resolve()) for path in (model, samples, output)]
    words = ["quantize", paths[0], "--samples", paths[1], "-o", paths[2], *arguments]
    with tempfile.TemporaryDirectory(prefix="edgeport-peer-") as scratch:
        command = [sys.executable, "-c", code, *words]
        seen = _run(command, limits, Path(scratch), PYTHONPATH=str(Path(__file__).parents[2]))
    told = {"samples": len(list(samples.glob("*.npz")))}
    return _result(name, metadata.version("edgeport"), output, seen, told)


def _alone(model: Path, scratch: Path) -> Path:
    """A folder that holds the model, with its external data if it has any, and nothing else."""
    import onnx

    folder = scratch / "source"
    folder.mkdir()
    proto = onnx.load(model, load_external_data=False)
    names = {
        entry.value
        for tensor in proto.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in (model.name, *sorted(names)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model.parent / name, folder / name)
    return folder


def _run(command: list[str], limits: Limits | None, scratch: Path, **variables: str) -> Supervised:
    """Two threads, no telemetry, and nothing written or read beside the scratch folder."""
    # what is installed has bytecode; a tree that is run as it stands may write its own
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment = {
        **inherited,
        "OMP_NUM_THREADS": str(THREADS),
        "CI": "1",  # openvino-telemetry and others ask this before they send anything
        "OLIVE_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(scratch),
        **variables,
    }
    return supervise(command, limits or Limits(), environment, scratch)


def _result(
    name: str, version: str, output: Path, seen: Supervised, told: dict[str, Any]
) -> PeerResult:
    error = seen.stopped or told.get("error", "")
    if not error and seen.returncode:
        lines = seen.log.strip().splitlines()
        error = f"exit code {seen.returncode}: {lines[-1] if lines else 'nothing was printed'}"
    if not error and not output.is_file():
        error = "the tool ended without an error and without a file"
    return PeerResult(
        name=name,
        version=version,
        output=None if error else output,
        wall_s=seen.wall_s,
        quantize_s=told.get("quantize_s"),
        peak_rss_gib=seen.peak_rss_gib,
        samples=told.get("samples"),
        error=error,
        log=seen.log if error else "",
    )
