"""What is asked of a build, and whether the builder that is here can do it at all.

Each refusal gives the reason, because TensorRT gives none: TensorRT-RTX takes a timing cache and
ignores it, and stops a weight-stripped build without a GPU with an assertion of its own.
"""

from __future__ import annotations

from typing import Any

from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_file
from runtimes.base import BuildOptions
from runtimes.tensorrt.installed import Installed

LEVELS = range(6)


def require_possible(options: BuildOptions, installed: Installed, device_problem: str) -> None:
    """Refuse wishes that ``installed`` cannot fulfil here.

    Args:
        device_problem: why there is no CUDA device, empty if there is one.

    Raises:
        UserError: this builder never does that.
        MissingRequirementError: it would with a GPU.
    """
    if options.strict_timing_cache and options.timing_cache is None:
        raise UserError(
            "--strict-timing-cache needs a timing cache to be strict about",
            fix="Add --timing-cache FILE",
        )
    if options.optimization_level is not None and options.optimization_level not in LEVELS:
        raise UserError(
            f"there is no optimization level {options.optimization_level}",
            fix="Choose one from 0 (fast build) to 5 (fast engine)",
        )
    if installed.dialect != "tensorrt-rtx":
        return
    if options.timing_cache is not None:
        raise UserError(
            f"{installed} times no kernels: it compiles them when the engine is loaded, and its "
            "timing cache does nothing",
            fix="Leave --timing-cache away; two builds of one model are the same engine anyway",
        )
    wish = "--strip-weights" if options.strip_weights else "--refit" if options.refit else ""
    if wish and device_problem:
        raise MissingRequirementError(
            f"{installed} builds no engine with {wish} without a GPU: {device_problem}",
            fix=f"Build on the machine with the RTX card, or leave {wish} away",
        )


def request_of(options: BuildOptions) -> dict[str, Any]:
    """The part of a worker's build request that the user decides."""
    cache = options.timing_cache
    return {
        "workspace_mib": options.workspace_mib,
        "shapes": {shape.name: shape.to_json() for shape in options.shapes},
        "optimization_level": options.optimization_level,
        "layer_details": options.layer_details,
        "strip_weights": options.strip_weights,
        "refit": options.refit,
        "timing_cache": None if cache is None else str(cache.resolve()),
        "strict_timing_cache": options.strict_timing_cache,
    }


def recorded(options: BuildOptions) -> dict[str, Any]:
    """What the passport keeps: every wish that differs from the default, and no path."""
    kept = {key: value for key, value in request_of(options).items() if value}
    if options.optimization_level is not None:
        kept["optimization_level"] = options.optimization_level
    if options.timing_cache is not None:
        kept["timing_cache"] = {
            "file": options.timing_cache.name,
            "sha256": sha256_file(options.timing_cache),
        }
    return kept
