"""Samples as feeds of one graph, checked as they stream by.

``calibration.samples.checks`` knows what a sample must be; here it learns it from the
self-description, or from the graph's own inputs where a file has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from calibration.samples.base import Array, Samples, inputs_of
from calibration.samples.checks import checked
from exporters.modelfile import ANY_SHAPE, InputSpec, ModelSpec, WeightsSource

if TYPE_CHECKING:
    import onnx_ir as ir

MIN_SAMPLES = 2
"""One sample says nothing about what varies. More is better: 16 to 500 are usual."""


def expected_inputs(graph: ir.Graph, spec: ModelSpec | None) -> ModelSpec:
    """The self-description, or the little that the graph of a file without one says."""
    if spec is not None:
        return spec
    inputs = tuple(
        InputSpec(
            name=value.name or "",
            dtype="float32" if value.dtype is None else value.dtype.numpy().name,
            shape=_shape(value),
        )
        for value in graph.inputs
        if not value.is_initializer()
    )
    return ModelSpec("the model", "", "", inputs, outputs=(), weights=WeightsSource("checkpoint"))


def _shape(value: ir.Value) -> tuple[int | str, ...]:
    """Sizes; a free axis has its name or "?", and an input of unknown rank takes any shape."""
    if value.shape is None:
        return ANY_SHAPE
    sizes = (d if isinstance(d, int) else d.value or "?" for d in value.shape)
    return tuple(size if size != -1 else "?" for size in sizes)


def checked_feeds(samples: Samples, expected: ModelSpec) -> Iterator[tuple[str, dict[str, Array]]]:
    """Yield ``(sample name, feeds)``; the first sample that does not fit the model is an error.

    Raises:
        UserError: names the sample, the input, and what is wrong with it.
    """
    pictures = any(item.semantics == "camera-images" for item in expected.inputs)
    for name, sample in zip(samples.names, samples, strict=True):
        checked(sample, name, expected)
        if not pictures:
            checked(sample, name, None)  # is there anything but constants?
        yield name, inputs_of(sample)
