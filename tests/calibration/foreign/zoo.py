"""Small graphs as other tools write them, by name, and samples for any model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from calibration.samples.base import InMemorySamples
from tests.calibration.foreign import bodies, operators, topologies
from tests.calibration.nets import Array


def feeds(proto: onnx.ModelProto, count: int = 3, **free: int) -> InMemorySamples:
    """Normal floats and small integers for every input that has no default.

    Args:
        free: sizes of named free axes; 2 by default.
    """
    random = np.random.default_rng(1)
    defaults = {i.name for i in proto.graph.initializer}

    def values(info: onnx.ValueInfoProto) -> Array:
        tensor = info.type.tensor_type
        shape = [d.dim_value or free.get(d.dim_param, 2) for d in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.issubdtype(dtype, np.floating):
            return random.standard_normal(shape).astype(dtype)
        return random.integers(0, 2, shape).astype(dtype)

    inputs = [info for info in proto.graph.input if info.name not in defaults]
    return InMemorySamples([{i.name: values(i) for i in inputs} for _ in range(count)])


Builder = Callable[[], onnx.ModelProto]

OPERATORS: tuple[Builder, ...] = (
    operators.depthwise,
    operators.grouped,
    operators.one_dimensional,
    operators.three_dimensional,
    operators.transposed,
    operators.same_padded,
    operators.gemms,
    operators.matmuls,
    operators.weights_behind_nodes,
    operators.shared_weights,
    operators.tied_weights,
    operators.initializers_as_inputs,
    operators.unfolded_batch_norms,
    operators.odd_names,
    operators.same_names,
    operators.free_axes,
)
TOPOLOGIES: tuple[Builder, ...] = (
    topologies.feature_pyramid,
    topologies.path_aggregation,
    topologies.squeeze_and_excite,
    topologies.residual_chain,
    topologies.dense_block,
    topologies.shuffle,
    operators.depthwise,
    operators.unfolded_batch_norms,
)
OTHERS: tuple[Builder, ...] = (
    topologies.transformer,
    topologies.recurrent,
    bodies.conditional,
    bodies.loop,
    bodies.scan,
    bodies.function,
    bodies.contrib,
    bodies.many_inputs,
)

WORKING: dict[str, Builder] = {
    build.__name__: build for build in (*OPERATORS, *TOPOLOGIES, *OTHERS)
}
"""What can be quantized, by name."""
