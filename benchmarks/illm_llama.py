"""llama.cpp as a contestant of `benchmarks.illm_kernels`: its files, and its process.

llama-cpp-python is built from its source package, in an environment of its own, whose interpreter
this module is run by, as a file:

    python -m venv llama && llama/bin/pip install --no-binary llama-cpp-python llama-cpp-python

Version 0.3.36 as it builds by itself for a CPU with AMX ended with a segmentation fault on prompts.
Without AMX, and with all else that the CPU has, it works:

    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON
        -DGGML_AVX512_BF16=ON -DGGML_AVX_VNNI=ON"

The files hold the weights of the checkpoint quantized anew: every matrix in Q8_0, or in Q4_0 with
the embedding (which is the output matrix, too) in Q8_0. Norms stay in float.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

KINDS = ("Q8_0", "Q4_0")
_CONTEXT = 512


def requantized(checkpoint: Path, kind: str, output: Path) -> Path:
    """``checkpoint`` (GGUF) with matrices of ``kind``; made where it is missing."""
    import gguf

    if output.is_file():
        return output
    reader = gguf.GGUFReader(checkpoint)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(output.with_suffix(".partial"), architecture)
    skipped = ("GGUF.", "general.architecture", "general.file_type")
    for field in reader.fields.values():
        if field.name.startswith(skipped):
            continue
        kinds = field.types
        sub = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=sub)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        name = "Q8_0" if tensor.name == "token_embd.weight" else kind
        wanted = gguf.GGMLQuantizationType[name if values.ndim == 2 else "F32"]
        writer.add_tensor(tensor.name, gguf.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    output.with_suffix(".partial").rename(output)
    return output


class LlamaProcess:
    """A file in llama.cpp, in the process of another interpreter.

    Args:
        python: the interpreter that has llama-cpp-python.
    """

    def __init__(self, python: Path, path: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).resolve()), str(path), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = str(self._answer()["version"])

    def timed(self, ids: list[int]) -> dict[str, float]:
        """Take ``ids`` in; seconds by ``wall clock`` and of ``CPU time``."""
        self._say(ids)
        return self._answer()

    def reset(self) -> None:
        self._say(None)
        self._answer()

    def _say(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"llama.cpp ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def serve(path: str, threads: int, answers: IO[str]) -> None:
    """The other side: one line of JSON for each line of JSON."""
    import llama_cpp

    model = llama_cpp.Llama(
        path, n_ctx=_CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
    )
    print(json.dumps({"version": llama_cpp.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        ids = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        if ids is None:
            model.reset()
        else:
            model.eval(ids)
        spent = {"wall clock": time.perf_counter() - wall, "CPU time": time.process_time() - cpu}
        print(json.dumps(spent), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.stdout)
