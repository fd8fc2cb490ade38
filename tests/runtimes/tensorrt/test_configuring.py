"""The configuration of a builder, on TensorRT-RTX's own: its calls exist, and its flags are set."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from runtimes.base import BuildOptions
from runtimes.tensorrt.configuring import configure, save_timing_cache
from runtimes.tensorrt.dialects import Dialect, dialect_for
from runtimes.tensorrt.wishes import request_of
from runtimes.tensorrt.worker import make_logger

trt = pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")


@pytest.fixture(scope="module")
def parts() -> tuple[Dialect, Any, Any]:
    """Dialect, builder and an empty network; the logger lives as long as they do."""
    dialect = dialect_for(trt)
    builder = trt.Builder(make_logger(trt, lambda _severity, _text: None))
    return dialect, builder, dialect.create_network(builder)


def configured(parts: tuple[Dialect, Any, Any], options: BuildOptions, **more: Any) -> Any:
    dialect, builder, network = parts
    config = builder.create_builder_config()
    with warnings.catch_warnings():
        # "no-ops in TensorRT-RTX": which is why the adapter refuses a timing cache there
        warnings.simplefilter("ignore", DeprecationWarning)
        request = {**request_of(options), "compute_capabilities": (), **more}
        configure(dialect, builder, network, config, request)
    return config


def test_without_a_wish_nothing_is_changed(parts: tuple[Dialect, Any, Any]) -> None:
    untouched = parts[1].create_builder_config()
    config = configured(parts, BuildOptions())
    assert config.flags == untouched.flags
    assert config.builder_optimization_level == untouched.builder_optimization_level
    assert config.profiling_verbosity == untouched.profiling_verbosity


def test_products_of_integers_are_not_left_to_tf32(parts: tuple[Dialect, Any, Any]) -> None:
    assert configured(parts, BuildOptions()).get_flag(trt.BuilderFlag.TF32)
    config = configured(parts, BuildOptions(), exact_floats=True)
    assert not config.get_flag(trt.BuilderFlag.TF32)


def test_each_wish_reaches_the_builder(parts: tuple[Dialect, Any, Any]) -> None:
    wishes = BuildOptions(
        strip_weights=True, refit=True, optimization_level=5, layer_details=True, workspace_mib=64
    )
    config = configured(parts, wishes)
    assert config.get_flag(trt.BuilderFlag.STRIP_PLAN)
    assert config.get_flag(trt.BuilderFlag.REFIT)
    assert not config.get_flag(trt.BuilderFlag.ERROR_ON_TIMING_CACHE_MISS)
    assert config.builder_optimization_level == 5
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20


def test_a_strict_timing_cache_is_set_and_can_be_saved(
    parts: tuple[Dialect, Any, Any], tmp_path: Path
) -> None:
    wishes = BuildOptions(timing_cache=tmp_path / "none.cache", strict_timing_cache=True)
    config = configured(parts, wishes)
    assert config.get_flag(trt.BuilderFlag.ERROR_ON_TIMING_CACHE_MISS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        save_timing_cache(config, tmp_path / "saved.cache")
    assert (tmp_path / "saved.cache").is_file()
