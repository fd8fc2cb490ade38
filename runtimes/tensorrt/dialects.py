"""What differs between TensorRT 10.x, 11.x and TensorRT-RTX, and every API name that is used.

| item                   | 10.x                    | 11.x            | RTX 1.7            |
|------------------------|-------------------------|-----------------|--------------------|
| module                 | ``tensorrt``            | ``tensorrt``    | ``tensorrt_rtx``   |
| ``EXPLICIT_BATCH``     | ignored, still there    | gone            | gone               |
| strongly typed network | flag ``STRONGLY_TYPED`` | always          | always             |
| compute capability     | the GPU that is present | the GPU present | any, without a GPU |

The dialect is chosen by the module's name and by which enum members exist, never by comparing
versions. Precision is in the graph (Q/DQ and FP16 nodes), so no builder flag and no calibrator
appears here. ``NAMES`` lists every attribute of TensorRT that the worker and the session touch;
a test compares the list with the code, and with the bindings that are installed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from exporters.errors import MissingRequirementError, UserError

Module = Any  # the imported tensorrt or tensorrt_rtx; neither ships types we could name

_COMMON_NAMES = (
    "Builder",
    "Builder.build_serialized_network",
    "Builder.create_builder_config",
    "Builder.create_network",
    "Builder.create_optimization_profile",
    "BuilderFlag.ERROR_ON_TIMING_CACHE_MISS",
    "BuilderFlag.REFIT",
    "BuilderFlag.STRIP_PLAN",
    "BuilderFlag.TF32",
    "EngineInspector.get_engine_information",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.clear_flag",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.set_flag",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.set_timing_cache",
    "ICudaEngine.create_engine_inspector",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.get_tensor_dtype",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.get_tensor_profile_shape",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.profiler",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_tensor_address",
    "ILogger",
    "INetworkDefinition.get_input",
    "INetworkDefinition.num_inputs",
    "IOptimizationProfile.set_shape",
    "IProfiler",
    "IProfiler.report_layer_time",
    "IProgressMonitor",
    "IProgressMonitor.phase_finish",
    "IProgressMonitor.phase_start",
    "IProgressMonitor.step_complete",
    "ITensor.is_shape_tensor",
    "ITimingCache.serialize",
    "LayerInformationFormat.JSON",
    "MemoryPoolType.WORKSPACE",
    "OnnxParser",
    "OnnxParser.get_error",
    "OnnxParser.num_errors",
    "OnnxParser.parse_from_file",
    "ParserError.desc",
    "ParserError.node_name",
    "ParserError.node_operator",
    "ProfilingVerbosity.DETAILED",
    "Runtime",
    "Runtime.deserialize_cuda_engine",
    "TensorIOMode.INPUT",
    "nptype",
)


class Dialect:
    """What all three have in common.

    Attributes:
        name: ``tensorrt-10``, ``tensorrt-11``, ``tensorrt-rtx``: the runtime name in a passport.
        NAMES: the API it uses, ``Class.member``.
    """

    name: ClassVar[str]
    NAMES: ClassVar[tuple[str, ...]] = _COMMON_NAMES

    def __init__(self, module: Module) -> None:
        self.module = module

    def create_network(self, builder: Any) -> Any:
        """An empty network in which every tensor has the type that the ONNX file says."""
        raise NotImplementedError

    def set_compute_capabilities(self, config: Any, capabilities: tuple[str, ...]) -> None:
        """Say which GPUs the engine is for; empty means the builder's default.

        Raises:
            UserError: this builder cannot build for that GPU, or not from here.
        """
        raise NotImplementedError

    def set_workspace(self, config: Any, workspace_mib: int) -> None:
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, workspace_mib << 20)


class _OnDevice(Dialect):
    """TensorRT proper: it builds for the GPU it runs on, by timing kernels there."""

    def set_compute_capabilities(self, _config: Any, capabilities: tuple[str, ...]) -> None:
        if capabilities:
            raise UserError(
                f"TensorRT {self.module.__version__} builds for the GPU of this machine only",
                fix="Leave --compute-capability away, and build on the device itself",
            )


class TensorRT10(_OnDevice):
    name = "tensorrt-10"
    NAMES = (*_COMMON_NAMES, "NetworkDefinitionCreationFlag.STRONGLY_TYPED")

    def create_network(self, builder: Any) -> Any:
        # The bit's number changed its meaning between 8.6 and 11, so it is asked for by name.
        flag = self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return builder.create_network(1 << int(flag))


class TensorRT11(_OnDevice):
    name = "tensorrt-11"

    def create_network(self, builder: Any) -> Any:
        return builder.create_network(0)


class TensorRTRTX(Dialect):
    name = "tensorrt-rtx"
    NAMES = (
        *_COMMON_NAMES,
        "ComputeCapability",
        "IBuilderConfig.num_compute_capabilities",
        "IBuilderConfig.set_compute_capability",
    )

    def create_network(self, builder: Any) -> Any:
        return builder.create_network(0)

    def set_compute_capabilities(self, config: Any, capabilities: tuple[str, ...]) -> None:
        members = [self._compute_capability(text) for text in capabilities]
        config.num_compute_capabilities = len(members)
        for index, member in enumerate(members):
            config.set_compute_capability(member, index)

    def _compute_capability(self, text: str) -> Any:
        known = self.known_capabilities()
        if text not in known:
            raise UserError(
                f"TensorRT-RTX {self.module.__version__} builds no engine for compute "
                f"capability {text!r}",
                fix=f"It builds for {', '.join(known)}; Jetson engines are built on the Jetson",
            )
        return getattr(self.module.ComputeCapability, known[text])

    def known_capabilities(self) -> dict[str, str]:
        """``{"8.9": "SM89", ...}`` in ascending order; the last digit is the minor version."""
        members = [n for n in vars(self.module.ComputeCapability) if n.startswith("SM")]
        ordered = sorted(members, key=lambda name: int(name[2:]))
        return {f"{name[2:-1]}.{name[-1]}": name for name in ordered}


DIALECTS: tuple[type[Dialect], ...] = (TensorRT10, TensorRT11, TensorRTRTX)


def dialect_for(module: Module) -> Dialect:
    """The dialect that ``module`` speaks.

    Raises:
        MissingRequirementError: it is older than the adapter supports.
    """
    if hasattr(module, "ComputeCapability") and module.__name__ != "tensorrt":
        return TensorRTRTX(module)
    flags = module.NetworkDefinitionCreationFlag
    if not hasattr(flags, "EXPLICIT_BATCH"):
        return TensorRT11(module)
    if hasattr(flags, "STRONGLY_TYPED"):
        return TensorRT10(module)
    raise MissingRequirementError(
        f"TensorRT {module.__version__} has no strongly typed networks; edgeport starts at 10.0",
        fix="On a Jetson, flash JetPack 6.1 or newer; on a PC: pip install 'tensorrt>=10'",
    )
