"""The passport of an engine: the sidecar ``ENGINE.passport.json``, written with the engine.

An engine file says nothing of itself that we may read, and a runtime that is given a wrong one
answers with a null pointer. So whoever builds an engine writes beside it what it is, and whoever
loads it compares: another file, another runtime or another version becomes a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporters.errors import UserError
from exporters.files import sha256_file
from exporters.modelfile import ModelFile
from runtimes.base import Evidence, Passport, TensorInfo

SCHEMA = "edgeport.passport/1"
_REBUILD = "Build it again: edgeport build MODEL.onnx --runtime tensorrt -o ENGINE"


def passport_path(engine: Path) -> Path:
    return engine.with_name(engine.name + ".passport.json")


def to_json(passport: Passport) -> dict[str, Any]:
    """The passport as JSON types, schema included."""
    return {"schema": SCHEMA, **asdict(passport), "evidence": passport.evidence.value}


def dump(passport: Passport) -> str:
    return json.dumps(to_json(passport), indent=2, sort_keys=True) + "\n"


def read_passport(engine: Path | str) -> Passport:
    """Read the passport of ``engine`` and check that it belongs to this very file.

    Raises:
        UserError: no such engine, no passport, a damaged one, or one of another file.
    """
    path = Path(engine)
    if not path.is_file():
        raise UserError(f"no engine at {path}", fix="Check the path, or run: edgeport build")
    sidecar = passport_path(path)
    if not sidecar.is_file():
        from runtimes.tensorrt.foreign import read_foreign

        raise UserError(
            f"{path} has no passport ({sidecar.name}): it was built by "
            f"{read_foreign(path).built_by}, and nobody knows for which GPU and model",
            fix=_REBUILD,
        )
    passport = _parse(sidecar)
    found = sha256_file(path)
    if found != passport.engine_sha256:
        raise UserError(
            f"{path} is not the engine of its passport: its SHA-256 begins {found[:12]}, "
            f"the passport says {passport.engine_sha256[:12]}",
            fix=_REBUILD,
        )
    return passport


def require_same_runtime(engine: Path, passport: Passport, runtime: str, version: str) -> None:
    """Refuse an engine that another builder, or another version of it, has made.

    Engines are bound to the release that built them; only the build number may differ.

    Raises:
        UserError: names both sides.
    """
    if passport.runtime != runtime:
        raise UserError(
            f"{engine} was built by {passport.runtime} {passport.runtime_version}, "
            f"here is {runtime} {version}",
            fix=_REBUILD,
        )
    if passport.runtime_version.split(".")[:3] != version.split(".")[:3]:
        raise UserError(
            f"{engine} was built by {runtime} {passport.runtime_version}; version {version} here "
            "cannot load it",
            fix=f"{_REBUILD}. Or install {runtime} {passport.runtime_version}",
        )


def require_same_gpu(engine: Path, passport: Passport, capability: str) -> None:
    """Refuse an engine that was built for other GPUs.

    Args:
        capability: compute capability of the GPU here, ``8.7``; empty where there is none.

    Raises:
        UserError: names both sides.
    """
    wanted = passport.compute_capabilities
    if capability and wanted and capability not in wanted:
        raise UserError(
            f"{engine} was built for compute capability {', '.join(wanted)}; the GPU here has "
            f"{capability}",
            fix=f"{_REBUILD} --compute-capability {capability}",
        )


def model_summary(model: ModelFile) -> dict[str, str]:
    """What a passport keeps of the model file, and nothing that depends on where it lay."""
    spec = model.spec
    if spec is None:
        return {"file": model.path.name}
    summary = {
        "file": model.path.name,
        "variant": spec.variant,
        "family": spec.family,
        "task": spec.task,
        "weights": str(spec.weights),
    }
    if spec.quantization is not None:
        summary["quantization"] = json.dumps(spec.quantization, sort_keys=True)
    return summary


def _parse(sidecar: Path) -> Passport:
    try:
        values: Mapping[str, Any] = json.loads(sidecar.read_text(encoding="utf-8"))
        fields = {key: value for key, value in values.items() if key != "schema"}
        _require_schema(values["schema"])
        return Passport(
            **{
                **fields,
                "options": fields.get("options", {}),  # absent before there were any
                "evidence": Evidence(fields["evidence"]),
                "compute_capabilities": tuple(fields["compute_capabilities"]),
                "inputs": _infos(fields["inputs"]),
                "outputs": _infos(fields["outputs"]),
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{sidecar} is not a passport: {error!r}", fix=_REBUILD) from error


def _require_schema(found: object) -> None:
    if found != SCHEMA:
        raise ValueError(f"schema {found!r}, this edgeport reads {SCHEMA!r}")


def _infos(items: list[dict[str, Any]]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(i["name"], i["dtype"], tuple(i["shape"])) for i in items)
