"""``edgeport doctor``: what is installed here, and what can be built and run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated, Any

import typer

from deploy.console import Output

_EXTRAS = {  # extra -> what it is for, and the distributions that make it
    "export": ("checkpoint to ONNX", ("torch", "onnxscript", "safetensors", "pillow")),
    "tools": ("graph surgery, backend comparison", ("onnx-graphsurgeon", "polygraphy")),
    "report": ("the HTML report", ("jinja2", "pillow")),
    "cluster": ("samples in parallel processes", ("joblib",)),
    "board": ("boards over SSH", ("asyncssh",)),
    "loadgen": ("MLPerf's load generator", ("mlcommons-loadgen",)),
    "bundle": ("bills of materials and signatures", ("cyclonedx-python-lib", "cryptography")),
    "energy": ("joules of NVIDIA GPUs", ("nvidia-ml-py",)),
    "llm": ("language models and their tokenizers", ("gguf", "jinja2", "tokenizers")),
    "metrics": ("ray and box metrics, compiled", ("numba",)),
    "openvino": ("OpenVINO as a runtime on CPUs", ("openvino",)),
    "tensorrt-rtx": ("RTX engines, built without a GPU", ("tensorrt-rtx-cu13",)),
}


@dataclass(frozen=True)
class Extra:
    """One optional part of edgeport; ``missing`` is empty where it is all there."""

    name: str
    purpose: str
    versions: dict[str, str]
    missing: tuple[str, ...]

    @property
    def fix(self) -> str:
        return f"pip install 'edgeport[{self.name}]'" if self.missing else ""


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what is installed here, and which runtimes and targets can be built or run.

    Every line says how it is known: executed (ran, numbers compared), built (a real parser or
    builder took it, nothing ran), name-checked (the API names occur in that version's bindings),
    written (from documentation). What is missing comes with the command to type. Example:

        edgeport doctor

    Known limits: it asks libraries and the driver; it runs no model.
    """
    out = Output(json=as_json)
    result = examine()
    _show_machine(out, result["environment"])
    _show_standing(out, result["standing"])
    _show_parts(out, result["extras"])
    _show_runtimes(out, result["runtimes"])
    _show_targets(out, result["targets"])
    out.result(result)


def examine() -> dict[str, Any]:
    """Machine, parts, runtimes and targets: what ``edgeport doctor --json`` prints."""
    from runtimes import cuda, targets
    from runtimes.machine import environment
    from runtimes.standing import standing
    from runtimes.survey import survey

    found = survey()
    return {
        "schema": "edgeport.doctor/1",
        "environment": environment(),
        "standing": asdict(standing(targets.load(), cuda.compute_capability())),
        "extras": [asdict(extra) for extra in installed_extras()],
        "runtimes": [asdict(runtime) for runtime in found.runtimes],
        "targets": [asdict(target) for target in found.targets],
    }


def installed_extras() -> list[Extra]:
    extras = []
    for name, (purpose, packages) in _EXTRAS.items():
        versions = {p: v for p in packages if (v := _version(p)) is not None}
        missing = tuple(p for p in packages if p not in versions)
        extras.append(Extra(name, purpose, versions, missing))
    return extras


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extra_row(extra: Extra) -> list[object]:
    versions = ", ".join(f"{name} {version}" for name, version in extra.versions.items())
    return [extra.name, extra.purpose, versions or None, extra.fix]


def _show_machine(out: Output, machine: dict[str, Any]) -> None:
    out.say(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib'] / 1024:.0f} GiB")
    out.say(f"{machine['os']}, Python {machine['python']}, load {machine['load']}")
    out.say(f"fast integer and half kernels: {', '.join(machine['cpu_flags']) or 'none known'}")
    out.say()


def _show_standing(out: Output, here: dict[str, Any]) -> None:
    software = f", Jetson Linux {here['l4t']}" if here["l4t"] else ""
    software += f", JetPack {here['jetpack']}" if here["jetpack"] else ""
    row = f"target {here['target']}" if here["target"] else "no row of the target table"
    out.say(f"this is {here['machine']}{software}: {row}")
    if here["reason"]:
        out.say(here["reason"])
    out.say()


def _show_parts(out: Output, extras: list[dict[str, Any]]) -> None:
    columns = ["extra", "for", "installed", "type to get it"]
    out.table("Parts", columns, [_extra_row(Extra(**extra)) for extra in extras])
    out.say()


def _show_runtimes(out: Output, runtimes: list[dict[str, Any]]) -> None:
    keys = ("runtime", "version", "can_build", "can_run", "evidence", "reason", "fix")
    columns = ["runtime", "version", "build", "run", "evidence", "what is missing", "fix"]
    out.table("Runtimes", columns, [[runtime[key] for key in keys] for runtime in runtimes])
    out.say()


def _show_targets(out: Output, targets: list[dict[str, Any]]) -> None:
    keys = ["target", "software", "build", "run", "evidence", "adapter"]
    columns = [*keys[:4], "evidence: the facts", "the code"]
    rows = [[target[key] for key in keys] for target in targets]
    out.table("Targets, from this machine", columns, rows)
    _show_fixes(out, targets)


def _show_fixes(out: Output, targets: list[dict[str, Any]]) -> None:
    """Each remedy once, with the targets that it is for."""
    remedies: dict[str, list[str]] = {}
    for target in targets:
        if target["fix"]:
            remedies.setdefault(target["fix"], []).append(target["target"])
    out.say()
    for fix, keys in remedies.items():
        out.say(f"{', '.join(keys)}\n    {fix}")
