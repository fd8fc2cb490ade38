"""Weight splitting on a real re-parameterised network: the encoder of silero-vad.

    pip install --no-deps silero-vad==6.2.3
    EDGEPORT_DATA=… python -m benchmarks.silero_cfws          # about a minute on one core

The four encoder convolutions of the released 16 kHz model (MIT) get integer weights by each method;
all else stays float. Scored on 60 s of real speech, 1875 frames with the recurrent state rolling:
SNR of the encoder's output, and the share of frames whose decision (p > 0.5) equals FP32's. The
audio has no labels: FP32 is the reference.

To reach, INT8: per tensor, naive under 50 % and CFWS at least 98 % agreement; per channel, CFWS at
least 5 dB above naive at 99.9 %. Results go to ``benchmarks/results/silero_cfws.json``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import time
import wave
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.weight_grids import METHODS, session, sqnr_db
from runtimes.machine import environment

RESULTS = Path(__file__).parent / "results" / "silero_cfws.json"
AUDIO = "audio/speech_60s_16k.wav"

ENCODER = "/model/encoder/3/reparam_conv/Conv_output_0"
KEEP = {"/model/stft": "fixed Fourier basis", "/model/decoder": "not re-parameterised"}
CONTEXT, FRAME, RATE_HZ = 64, 512, 16_000
THRESHOLD = 0.5

Array = NDArray[Any]


def model() -> onnx.ModelProto:
    """The released ONNX file, out of the wheel; the package itself needs torchaudio to import."""
    found = importlib.util.find_spec("silero_vad")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps silero-vad==6.2.3")
    return onnx.load(Path(found.origin).parent / "data" / "silero_vad_16k_op15.onnx")


def frames(path: Path) -> Array:
    """float32 ``[count, 576]`` in [-1, 1): 512 new samples behind the last 64 before them."""
    with wave.open(str(path)) as file:
        if file.getframerate() != RATE_HZ:
            raise SystemExit(f"{path} is not {RATE_HZ} Hz")
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    signal = np.pad(pcm[: len(pcm) // FRAME * FRAME] / np.float32(32768), (CONTEXT, 0))
    windows = np.lib.stride_tricks.sliding_window_view(signal, CONTEXT + FRAME)
    return np.ascontiguousarray(windows[::FRAME], dtype=np.float32)


def listen(network: onnx.ModelProto, audio: Array) -> tuple[Array, Array]:
    """Speech probability ``[count]`` and encoder output ``[count, 128, 1]``."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(network)
    tapped.graph.output.append(onnx.helper.make_empty_tensor_value_info(ENCODER))
    running = session(tapped)
    state = np.zeros((2, 1, 128), np.float32)
    rate = np.array(RATE_HZ, np.int64)
    speech, encoded = [], []
    for frame in audio:
        probability, state, features = running.run(
            None, {"input": frame[None], "state": state, "sr": rate}
        )
        speech.append(probability.item())
        encoded.append(features[0])
    return np.array(speech), np.array(encoded)


def compare(
    reference: tuple[Array, Array], network: onnx.ModelProto, audio: Array
) -> dict[str, Any]:
    speech, encoded = listen(network, audio)
    same = (speech > THRESHOLD) == (reference[0] > THRESHOLD)
    return {
        "encoder_snr_db": round(sqnr_db(reference[1], encoded), 2),
        "agreement": round(float(same.mean()), 4),
        "mean_difference": round(float(np.abs(speech - reference[0]).mean()), 5),
    }


def layer_by_layer(
    network: onnx.ModelProto, reference: tuple[Array, Array], audio: Array
) -> list[dict[str, Any]]:
    """INT8 per tensor in one encoder layer alone: where the network dies."""
    rows = []
    for layer in range(4):
        others = {f"/model/encoder/{i}": "measured alone" for i in range(4) if i != layer}
        row: dict[str, Any] = {"layer": layer}
        for name in ("naive per tensor", "CFWS tensor/tensor"):
            rounded = METHODS[name](network, 8, KEEP | others)
            row[name] = compare(reference, rounded, audio)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 5, 4])
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    started = time.perf_counter()
    root = os.environ.get("EDGEPORT_DATA")
    if root is None:
        raise SystemExit("EDGEPORT_DATA names no folder with real sensor data")
    network, audio = model(), frames(Path(root) / AUDIO)
    reference = listen(network, audio)
    speech = float((reference[0] > THRESHOLD).mean())
    print(f"{len(audio)} frames, {speech:.2%} speech by FP32")
    table: dict[str, dict[str, Any]] = {}
    for name, method in METHODS.items():
        table[name] = {}
        for bits in arguments.bits:
            table[name][str(bits)] = compare(reference, method(network, bits, KEEP), audio)
        cells = (
            f"{c['encoder_snr_db']:6.2f} dB {c['agreement']:.4f}" for c in table[name].values()
        )
        print(f"{name:<42}", " | ".join(cells), flush=True)
    results = {
        "date": datetime.date.today().isoformat(),
        "environment": environment(threads=1),
        "model": {"package": "silero-vad", "version": metadata.version("silero-vad")},
        "audio": {"frames": len(audio), "speech_by_fp32": round(speech, 4)},
        "weights_only": table,
        "one_layer_alone_int8": layer_by_layer(network, reference, audio),
        "seconds": round(time.perf_counter() - started, 1),
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
