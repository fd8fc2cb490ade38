"""What the inputs of an ONNX from elsewhere want, said by its user.

A graph knows names, types and shapes; nobody but its user knows colour order and normalisation, and
a wrong guess calibrates silently wrong scales. So what the graph says is taken from it, and what it
cannot say has to be said: in options of ``edgeport samples``, or as YAML (or JSON):

    inputs:
      - {name: images, color: RGB, resize: letterbox, scale: 1/255}
      - {name: points, kind: points, range: [0, -40, -3, 70, 40, 1]}

The result is a self-description like those that edgeport exports carry. ``pictures`` and ``points``
have tables of all keys; ``color`` stands for ``color_order``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.samples.pictures import IMAGE, IMAGE_KEYS, image_layout, image_spec
from calibration.samples.points import POINT_COUNT, POINT_KEYS, POINTS, points_spec
from calibration.samples.said import SEE
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import InputSpec, ModelSpec, WeightsSource

if TYPE_CHECKING:
    import onnx

TENSOR = "tensor"

_COMMON = ("name", "kind", "dtype")
KEYS: Mapping[str, tuple[str, ...]] = {
    IMAGE: IMAGE_KEYS,
    POINTS: POINT_KEYS,
    POINT_COUNT: (),
    TENSOR: ("shape",),
}
"""What can be said of an input, by kind."""

_MOST_COLUMNS = 6


def graph_inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """What a graph itself says of its inputs."""
    from onnx import helper

    held = {tensor.name for tensor in proto.graph.initializer}
    found = []
    for value in proto.graph.input:
        if value.name in held:
            continue
        tensor = value.type.tensor_type
        sizes = (d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim)
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        found.append(InputSpec(value.name, dtype, tuple(size or "any" for size in sizes)))
    return tuple(found)


def bare_spec(inputs: Iterable[InputSpec], variant: str = "the model") -> ModelSpec:
    """A self-description of inputs alone."""
    return ModelSpec(variant, "", "", tuple(inputs), (), WeightsSource("checkpoint"))


def read_description(path: Path) -> list[dict[str, Any]]:
    """The inputs that a YAML or JSON file describes.

    Raises:
        UserError: unreadable, or no list of inputs.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}", fix=SEE) from error
    items = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UserError(f"{path} has no list 'inputs'", fix=SEE)
    return items


def described(
    items: Sequence[Mapping[str, Any]],
    graph: Sequence[InputSpec] | None = None,
    variant: str = "the model",
) -> ModelSpec:
    """A self-description from what the user says and what the graph says.

    Args:
        items: what is said of inputs; inputs of the graph that nobody speaks of are judged by
            shape.
        graph: inputs of the graph; None where there is no file yet.

    Raises:
        UserError: an unknown input, key or value, or something that has to be said and was not.
    """
    known = {item.name: item for item in graph or ()}
    said: dict[str, Mapping[str, Any]] = {}
    for item in items:
        name = _name(item, known, has_graph=graph is not None)
        if name in said:
            raise UserError(f"input {name!r} is described twice", fix=SEE)
        said[name] = item
    names = list(known) if graph is not None else list(said)
    if not names:
        raise UserError(
            "nobody says which inputs the samples are for",
            fix="Give --model FILE, or --input NAME and what it wants",
        )
    return bare_spec((_input(name, said.get(name, {}), known.get(name)) for name in names), variant)


def _name(item: Mapping[str, Any], known: Mapping[str, InputSpec], *, has_graph: bool) -> str:
    name = item.get("name")
    if name is None and len(known) == 1:
        return next(iter(known))
    if name is None:
        raise UserError(
            "a description does not say of which input it is",
            fix=f"Give --input: {', '.join(known)}" if known else "Give --input NAME",
        )
    if has_graph and name not in known:
        raise UserError(f"the model has no input {name!r}", fix=did_you_mean(str(name), known))
    return str(name)


def _input(name: str, said: Mapping[str, Any], graph: InputSpec | None) -> InputSpec:
    kind = said.get("kind") or _kind(said, graph)
    if kind not in KEYS:
        raise UserError(f"input {name!r}: unknown kind {kind!r}", fix=did_you_mean(kind, KEYS))
    for key in said:
        if key not in (*_COMMON, *KEYS[kind]):
            raise UserError(
                f"input {name!r}: {kind} has no key {key!r}",
                fix=did_you_mean(str(key), [*_COMMON, *KEYS[kind]]),
            )
    makers = {IMAGE: image_spec, POINTS: points_spec}
    made = makers.get(kind, _other)(name, said, graph)
    _require_agreement(made, graph)
    return made


def _kind(said: Mapping[str, Any], graph: InputSpec | None) -> str:
    """By the keys that only one kind has, else by the shape in the graph."""
    for kind in (IMAGE, POINTS):
        others = {key for other, keys in KEYS.items() if other != kind for key in keys}
        if any(key in KEYS[kind] and key not in others for key in said):
            return kind
    shape = graph.shape if graph is not None else ()
    floats = graph is not None and graph.dtype.startswith("float")
    if image_layout(shape) is not None and (
        floats or (graph is not None and graph.dtype == "uint8")
    ):
        return IMAGE
    rows = len(shape) == 2 or (len(shape) == 3 and (shape[0] == 1 or isinstance(shape[0], str)))
    if floats and rows and isinstance(shape[-1], int) and 3 <= shape[-1] <= _MOST_COLUMNS:
        return POINTS
    return TENSOR


def _other(name: str, said: Mapping[str, Any], graph: InputSpec | None) -> InputSpec:
    if graph is None and "shape" not in said and said.get("kind") != POINT_COUNT:
        raise UserError(f"nobody says what input {name!r} is", fix=f"Describe its kind. {SEE}")
    usual = "int32" if said.get("kind") == POINT_COUNT else "float32"
    dtype = str(said.get("dtype") or (graph.dtype if graph is not None else usual))
    shape = tuple(said.get("shape", graph.shape if graph is not None else (1,)))
    return InputSpec(name, dtype, shape, str(said.get("kind", TENSOR)))


def _require_agreement(made: InputSpec, graph: InputSpec | None) -> None:
    if graph is None:
        return
    fits = len(made.shape) == len(graph.shape) and all(
        isinstance(theirs, str) or ours == theirs
        for ours, theirs in zip(made.shape, graph.shape, strict=True)
    )
    if not fits or made.dtype != graph.dtype:
        raise UserError(
            f"input {made.name!r} is {graph.dtype} {list(graph.shape)} in the model, described as "
            f"{made.dtype} {list(made.shape)}",
            fix="Leave out what the model says itself: --layout, --size, dtype",
        )
