"""What may be asked of a builder: shapes, memory, effort, kernel times, weights left out.

The same wishes in two dialects: a configuration of TensorRT's bindings, and trtexec's arguments.
Evidence: with TensorRT-RTX built; written for TensorRT 10 and 11, names checked in their bindings.

    {"workspace_mib", "shapes": {input: {"min", "opt", "max"}}, "optimization_level",
     "timing_cache": file, "strict_timing_cache", "strip_weights", "refit", "exact_floats"}
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

from .journal import BoardError

Wishes = Dict[str, Any]
_FLAGS = (
    ("strip_weights", "STRIP_PLAN", "--stripWeights"),
    ("refit", "REFIT", "--refit"),
    ("strict_timing_cache", "ERROR_ON_TIMING_CACHE_MISS", "--errorOnTimingCacheMiss"),
)


def configure(trt: Any, builder: Any, config: Any, wishes: Wishes) -> None:
    """Apply ``wishes`` to a builder's configuration."""
    if wishes.get("workspace_mib"):
        size = int(wishes["workspace_mib"]) << 20
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    if wishes.get("optimization_level") is not None:
        config.builder_optimization_level = int(wishes["optimization_level"])
    if wishes.get("shapes"):
        _add_profile(builder, config, wishes["shapes"])
    for wish, flag, _ in _FLAGS:
        if wishes.get(wish):
            if not hasattr(trt.BuilderFlag, flag):
                raise BoardError(f"{trt.__name__} {trt.__version__} of the board has no {flag}")
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if wishes.get("exact_floats"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default; integers are summed in float32
    if wishes.get("timing_cache"):
        _use_timing_cache(trt, config, wishes)


def keep_timing_cache(config: Any, wishes: Wishes) -> None:
    """Write what the builder now knows about kernel times."""
    path = wishes.get("timing_cache")
    if not path:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".partial", "wb") as file:
        file.write(bytes(config.get_timing_cache().serialize()))
    os.replace(path + ".partial", path)


def trtexec_arguments(wishes: Wishes) -> List[str]:
    """The same for trtexec."""
    found = []
    if wishes.get("workspace_mib"):
        found.append("--memPoolSize=workspace:{}".format(wishes["workspace_mib"]))
    if wishes.get("optimization_level") is not None:
        found.append("--builderOptimizationLevel={}".format(wishes["optimization_level"]))
    for end in ("min", "opt", "max") if wishes.get("shapes") else ():
        sizes = (
            "{}:{}".format(name, "x".join(str(size) for size in ends[end]))
            for name, ends in wishes["shapes"].items()
        )
        found.append("--{}Shapes={}".format(end, ",".join(sizes)))
    if wishes.get("timing_cache"):
        found.append("--timingCacheFile={}".format(wishes["timing_cache"]))
    if wishes.get("exact_floats"):
        found.append("--noTF32")
    found += [argument for wish, _, argument in _FLAGS if wishes.get(wish)]
    return found


def _add_profile(builder: Any, config: Any, shapes: Dict[str, Dict[str, List[int]]]) -> None:
    profile = builder.create_optimization_profile()
    for name, ends in shapes.items():
        profile.set_shape(name, ends["min"], ends["opt"], ends["max"])
    if config.add_optimization_profile(profile) < 0:
        raise BoardError(
            "TensorRT of the board refuses the shape ranges of this model",
            "Give smaller --max-shapes, or export the model with fixed sizes",
        )


def _use_timing_cache(trt: Any, config: Any, wishes: Wishes) -> None:
    path = wishes["timing_cache"]
    if not hasattr(config, "create_timing_cache"):
        raise BoardError(
            f"{trt.__name__} {trt.__version__} of the board times no kernels",
            "Leave --timing-cache away",
        )
    known = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            known = file.read()
    elif wishes.get("strict_timing_cache"):
        raise BoardError(
            "the board has no timing cache yet, and a strict build measures no kernel",
            "Build once without --strict-timing-cache",
        )
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        os.unlink(path)
        raise BoardError(
            "the board's timing cache is of another GPU or TensorRT, and is removed",
            "Run it again",
        )
