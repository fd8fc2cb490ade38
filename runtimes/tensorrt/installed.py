"""Which TensorRT is here, and the sentence for a target that needs another one."""

from __future__ import annotations

from dataclasses import dataclass

from exporters.errors import MissingRequirementError, UserError
from runtimes.base import BuildOptions, Evidence
from runtimes.targets import Device, Stack, Target

MODULES = ("tensorrt", "tensorrt_rtx")
"""In order of preference: a system's own TensorRT comes first."""

INSTALL = (
    "For RTX engines, no GPU needed: pip install 'edgeport[tensorrt-rtx]'. "
    "On a Jetson: sudo apt-get install nvidia-jetpack, and a venv with --system-site-packages"
)

_EVIDENCE = {
    "tensorrt-rtx": Evidence.BUILT,
    "tensorrt-10": Evidence.NAME_CHECKED,
    "tensorrt-11": Evidence.NAME_CHECKED,
}


@dataclass(frozen=True)
class Installed:
    """A TensorRT that a worker process could import."""

    module: str
    version: str
    dialect: str

    @property
    def evidence(self) -> Evidence:
        """How this project knows that its dialect is right."""
        return _EVIDENCE[self.dialect]

    @property
    def needs_gpu_to_build(self) -> bool:
        return self.dialect != "tensorrt-rtx"

    def is_stack(self, stack: Stack) -> bool:
        wanted = stack.version.split(".")
        return self.module == stack.module and self.version.split(".")[: len(wanted)] == wanted

    def __str__(self) -> str:
        product = "TensorRT-RTX" if self.module == "tensorrt_rtx" else "TensorRT"
        return f"{product} {self.version}"


def require_tensorrt(target: Target, stack: Stack) -> None:
    """Raise UserError where ``target`` is not one that TensorRT builds for."""
    if stack.runtime != "tensorrt":
        raise UserError(
            f"target {target.key} runs {stack.name}, which needs no engine",
            fix=f"edgeport bench MODEL.onnx --runtime {stack.runtime}",
        )


def require_stack(
    target: Target, stack: Stack, device: Device, installed: Installed | None
) -> Installed:
    """The installed TensorRT, if it is the target's.

    Raises:
        MissingRequirementError: it is another one, or none; says what to type, and where.
    """
    if installed is not None and installed.is_stack(stack):
        return installed
    here = f"here is {installed}" if installed else "no TensorRT is installed here"
    if stack.cross_builds:
        raise MissingRequirementError(
            f"target {target.key} needs {stack.name}; {here}", fix=f"Type: {stack.setup}"
        )
    cannot = (
        f", which builds no engine for compute capability {device.compute_capability}"
        if installed
        else ""
    )
    raise MissingRequirementError(
        f"target {target.key} needs {stack.name} on the {device.name} itself; {here}{cannot}",
        fix=f"On the {device.name}: {stack.setup}; then the same edgeport build there. "
        f"Until then: edgeport check MODEL.onnx --target {target.key}",
    )


def capabilities_of(options: BuildOptions, device: Device, stack: Stack) -> tuple[str, ...]:
    """Compute capabilities to build for: the target device's, and no others.

    Raises:
        UserError: the options ask for another one than the target has.
    """
    asked = options.compute_capabilities
    own = (device.compute_capability,) if device.compute_capability else ()
    if asked and own and asked != own:
        raise UserError(
            f"{device.name} has compute capability {own[0]}, not {', '.join(asked)}",
            fix="Leave --compute-capability away, or choose another --target",
        )
    return (own or asked) if stack.cross_builds else ()
