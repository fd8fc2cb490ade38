"""A build request as a builder configuration; runs in the worker, where TensorRT is.

What the dialects have in common is said once here: shapes, memory, effort, refitting, the timing
cache. The ONNX file has been checked before, so whatever TensorRT still refuses is told in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.errors import UserError
from runtimes.serving import Message
from runtimes.tensorrt.dialects import Dialect


def configure(dialect: Dialect, builder: Any, network: Any, config: Any, request: Message) -> None:
    """Apply everything that ``request`` asks for.

    Raises:
        UserError: TensorRT takes the model but not this wish; says which and why.
    """
    module = dialect.module
    dialect.set_compute_capabilities(config, tuple(request["compute_capabilities"]))
    if request["workspace_mib"] is not None:
        dialect.set_workspace(config, request["workspace_mib"])
    if request["shapes"]:
        _add_profile(builder, network, config, request["shapes"])
    if request["optimization_level"] is not None:
        config.builder_optimization_level = request["optimization_level"]
    if request["layer_details"]:
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if request["strip_weights"]:
        config.set_flag(module.BuilderFlag.STRIP_PLAN)
    if request["refit"]:
        config.set_flag(module.BuilderFlag.REFIT)
    if request.get("exact_floats"):
        config.clear_flag(module.BuilderFlag.TF32)  # on by default; integers are summed in float32
    if request["timing_cache"] is not None:
        _set_timing_cache(module, config, request)


def save_timing_cache(config: Any, path: Path) -> None:
    """Write what the builder knows about kernel times, what it was given included."""
    path.write_bytes(bytes(config.get_timing_cache().serialize()))


def _add_profile(builder: Any, network: Any, config: Any, shapes: Message) -> None:
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.is_shape_tensor:
            raise UserError(
                f"input {tensor.name!r} is read as a shape, so its values decide sizes inside "
                "the network; edgeport gives ranges for shapes only",
                fix="Export the model with that size as a constant",
            )
    profile = builder.create_optimization_profile()
    for name, sizes in shapes.items():
        profile.set_shape(name, sizes["min"], sizes["opt"], sizes["max"])
    if config.add_optimization_profile(profile) < 0:
        raise UserError(
            "TensorRT refuses the shape ranges of this model",
            fix="Give smaller --max-shapes, or export the model with fixed sizes",
        )


def _set_timing_cache(module: Any, config: Any, request: Message) -> None:
    path = Path(request["timing_cache"])
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    # not ignoring a mismatch: times of another GPU would choose the wrong kernels silently
    if not config.set_timing_cache(cache, False):
        raise UserError(
            f"the timing cache {path} is of another GPU or another TensorRT",
            fix="Give each GPU and TensorRT release a file of its own: --timing-cache FILE",
        )
    if request["strict_timing_cache"]:
        config.set_flag(module.BuilderFlag.ERROR_ON_TIMING_CACHE_MISS)
