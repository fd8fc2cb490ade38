"""Other quantizers, each pinned, in an environment and a process of its own, on equal terms.

    python -m benchmarks.peers list
    python -m benchmarks.peers install nncf
    python -m benchmarks.peers quantize nncf:mixed model.onnx samples/ out.onnx

    from benchmarks.peers import run_edgeport, run_peer
    result = run_peer("nncf:mixed", Path("model.onnx"), Path("samples"), Path("out.onnx"))

Every tool gets the same FP32 file and the same folder of ``.npz`` samples. What it takes in wall
time and memory is measured from outside, and ours is measured in the same way (``run_edgeport``).
What it wrote is judged by ``benchmarks.peers.judging``: speed in ONNX Runtime, whether TensorRT
parses and builds it, how many layers are in INT8. A tool that fails is a row with an error, not an
end.

Not for CI: environments take minutes and gigabytes; ``peers.toml`` says what each needs.
"""

from __future__ import annotations

from benchmarks.peers.catalogue import Peer, load_catalogue
from benchmarks.peers.running import PeerResult, run_edgeport, run_peer

__all__ = ["Peer", "PeerResult", "load_catalogue", "run_edgeport", "run_peer"]
