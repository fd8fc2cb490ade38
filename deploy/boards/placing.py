"""A case as the runner on the board reads it: what runs it there, and which files it needs.

An engine is built from the model as TensorRT may see it (``runtimes.tensorrt.prepare``): functions
are written out here, where ``onnx`` is installed, and foreign operators are refused before anything
is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.boards.jobs import BoardCase
from exporters.errors import MissingRequirementError, UserError, did_you_mean
from exporters.files import sha256_bytes, sha256_file
from exporters.modelfile import ModelFile, canonical_json
from runtimes.graphview import all_nodes
from runtimes.signature import input_infos, output_infos
from runtimes.tensorrt.prepare import multiplies_integers, prepare

if TYPE_CHECKING:
    import onnx

TRTEXEC = "trtexec"
RUNTIMES = ("tensorrt", TRTEXEC, "onnxruntime")
"""What may be asked for; ``tensorrt`` is by bindings, or by trtexec where they are missing."""
BINDINGS_FROM = 10
"""Older bindings know no strongly typed networks; trtexec of the same version builds instead."""


@dataclass(frozen=True)
class Placed:
    """One case on one board.

    Attributes:
        plan: the case in the job's JSON, with paths of the board.
        files: to be there before it starts: name in the cache to the file here.
    """

    plan: Mapping[str, Any]
    files: Mapping[str, Path]


def place(case: BoardCase, runtimes: Mapping[str, str], cache: str, scratch: Path) -> Placed:
    """What ``case`` means on a board.

    Args:
        runtimes: what the board said it has, name to version.
        cache: absolute path of the board's cache.
        scratch: existing folder here for a model that has to be rewritten; must outlive the upload.

    Raises:
        MissingRequirementError: the board has nothing that could run the case.
        UserError: wishes that what runs it cannot fulfil, or a model that TensorRT does not take.
    """
    runs_in = choose(case.runtime, runtimes)
    if runs_in == "onnxruntime":
        _refuse_wishes(case)
        model = ModelFile(case.path)
        return Placed({**_plan(case, model, cache), "runs_in": runs_in}, _files(model))
    version = runtimes[runs_in]
    adds = runs_in != "tensorrt_rtx" and _major(version) >= BINDINGS_FROM
    model = ModelFile(prepare(ModelFile(case.path), scratch, adds=adds)[1])
    plan = _plan(case, model, cache)
    build = dict(case.build)
    if multiplies_integers(model):
        build["exact_floats"] = True
    if runs_in == TRTEXEC:
        _refuse_stripping(case, version)
        build["types"] = _types(model.proto)
        plan["options"].update(_trtexec_options(model.proto))
    key = {"model": model.sha256, "version": version, "runtime": runs_in, "build": build}
    name = sha256_bytes(canonical_json(key).encode())
    plan |= {
        "runs_in": runs_in,
        "builds_in": runs_in,
        "build": _wishes(build, f"{runs_in}-{version}", cache),
        "engine": f"{cache}/engines/{name}.engine",
    }
    return Placed(plan, _files(model))


def choose(asked: str | None, runtimes: Mapping[str, str]) -> str:
    """What of ``runtimes`` a case runs in.

    >>> choose(None, {"tensorrt": "8.5.2.2", "trtexec": "8.5.2", "onnxruntime": "1.16"})
    'trtexec'
    """
    if asked is not None and asked not in RUNTIMES:
        raise UserError(f"boards do not run {asked!r}", fix=did_you_mean(asked, RUNTIMES))
    usable = [name for name in ("tensorrt", "tensorrt_rtx", *RUNTIMES[1:]) if name in runtimes]
    if _major(runtimes.get("tensorrt", "0")) < BINDINGS_FROM and "tensorrt" in usable:
        usable.remove("tensorrt")
    wanted = [name for name in usable if asked in (None, name) or _is_engine(asked, name)]
    if wanted:
        return wanted[0]
    has = ", ".join(f"{name} {version}" for name, version in runtimes.items()) or "nothing"
    if asked is None:
        raise MissingRequirementError(
            f"the board can run nothing: neither TensorRT nor onnxruntime (it has {has})",
            fix="There: sudo apt-get install nvidia-jetpack, or pip3 install onnxruntime",
        )
    fixes = {
        "onnxruntime": "There: pip3 install onnxruntime",
        TRTEXEC: "There: sudo apt-get install libnvinfer-bin",
        "tensorrt": "There: sudo apt-get install nvidia-jetpack python3-libnvinfer",
    }
    names = {"tensorrt": "TensorRT: neither its bindings for Python nor trtexec"}
    raise MissingRequirementError(
        f"the board has no {names.get(asked, asked)} (it has {has})", fix=fixes[asked]
    )


def data_names(file: ModelFile) -> dict[str, str]:
    """Of every file that holds weights: the name by which the model knows it, and the board's."""
    folder = file.path.parent
    return {
        path.relative_to(folder).as_posix(): f"{sha256_file(path)}.data" for path in file.data_files
    }


def _plan(case: BoardCase, model: ModelFile, cache: str) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "name": case.name,
        "file": f"{cache}/files/{sha256_file(model.path)}.onnx",
        "options": dict(case.options),
    }
    if model.data_files:
        plan["data"] = {
            name: f"{cache}/files/{remote}" for name, remote in data_names(model).items()
        }
        plan["folder"] = f"{cache}/models/{model.sha256}"
    return plan


def _files(model: ModelFile) -> dict[str, Path]:
    folder = model.path.parent
    data = {remote: folder / name for name, remote in data_names(model).items()}
    return {f"{sha256_file(model.path)}.onnx": model.path, **data}


def _wishes(build: Mapping[str, Any], builder: str, cache: str) -> dict[str, Any]:
    wishes = dict(build)
    if wishes.get("timing_cache"):
        wishes["timing_cache"] = f"{cache}/timing/{builder}.cache"
    return wishes


def _trtexec_options(proto: onnx.ModelProto) -> dict[str, Any]:
    """What a command line has to be told and an engine's own interface knows."""
    sizes = [size for info in input_infos(proto) for size in info.shape]
    return {
        "outputs": {info.name: info.dtype for info in output_infos(proto)},
        "dynamic": any(isinstance(size, str) for size in sizes),
    }


def _types(proto: onnx.ModelProto) -> list[str]:
    """For TensorRT 8, which takes no type that it was not allowed to."""
    half = 10  # onnx.TensorProto.FLOAT16
    nodes = list(all_nodes(proto.graph))
    casts = {a.i for node in nodes if node.op_type == "Cast" for a in node.attribute}
    kinds = casts | {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in proto.graph.input}
    quantized = any(node.op_type == "QuantizeLinear" for node in nodes)
    return [name for name, is_there in (("fp16", half in kinds), ("int8", quantized)) if is_there]


def _is_engine(asked: str | None, name: str) -> bool:
    return asked == "tensorrt" and name != "onnxruntime"


def _refuse_wishes(case: BoardCase) -> None:
    if case.build:
        raise UserError(
            f"{case.name} runs in ONNX Runtime there, which builds no engine: "
            f"{', '.join(case.build)} would be left out",
            fix="Leave the options of the builder away, or install TensorRT on the board",
        )


def _refuse_stripping(case: BoardCase, version: str) -> None:
    if case.build.get("strip_weights"):
        raise UserError(
            f"trtexec {version} of the board builds {case.name} without weights, but cannot give "
            "them back",
            fix="Leave --strip-weights away, or install TensorRT's Python bindings there",
        )


def _major(version: str) -> int:
    digits = version.split(".")[0]
    return int(digits) if digits.isdigit() else 0
