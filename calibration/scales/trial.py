"""What a whole assignment of scales does to the network's outputs, many of them in one session.

Scales and zero points of the rounded network are inputs here, so that trying the next assignment is
a run and not a new file. The float outputs are computed once, and compared inside the session.
Biases stay float: in int32 they are exact enough not to matter, and their grid would depend on the
scales.

What decides the outputs (`calibration.graph.telling`) is judged in dB of energy over noise. Where
labels are made of it, energy is the wrong judge: most voxels are free space, most pixels are road,
and what is rare costs little. There the probabilities decide, with P of the float network and R of
the rounded one, every class alike:

    overlap = mean over classes of [ sum over positions of min(P, R) / sum of max(P, R) ]

and the noise is what is missing to 1. Chances, each a Sigmoid, are judged so too, as one class. On
a trained FlashOcc this ranks assignments as their mIoU on ground truth does; by energy, one that
lost 2.2 points came before one that lost 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.telling import Judged, Telling, telling_values
from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.observing.sessions import lean_options, open_session
from calibration.qdq.insertion import insert
from calibration.rounding.shares import Subset, decibels
from calibration.rounding.twin import WeightGrids
from calibration.samples.base import Array
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

KEPT_BYTES = 1 << 29
"""Of float outputs; of as many samples as that holds, two at least."""

FEWEST_POSITIONS = 1.0
"""Of a class, by probability: what is expected nowhere says nothing."""

ALL = slice(None)

_TINY = 1e-30


class Trial:
    """The network with weights rounded and every activation's scale to be given.

    Args:
        model: prepared; it is copied, weights are shared.
        grids: what weights become.
        count: samples, spread over the set.
    """

    def __init__(self, job: Job, model: ir.Model, grids: WeightGrids, count: int) -> None:
        assert job.samples is not None  # checked by the caller
        self._job = job
        self._told = telling_values(model.graph)
        self._feeds: list[dict[str, Array]] = []
        self._real: list[dict[str, Array]] = []
        self._inputs: dict[str, tuple[str, str]] = {}
        if self._told:
            self._run_real(model, count)
            self._session = _session(self._rounded(model, grids))

    def __len__(self) -> int:
        """How many samples there are; 0 where no output comes from numbers of both networks."""
        return len(self._feeds)

    def fidelities_db(
        self, scales: Mapping[ir.Value, Scale], which: slice = ALL
    ) -> NDArray[np.float64]:
        """Of the outputs, their mean; one number for every sample of ``which``."""
        given = self._given({value.name or "": scale for value, scale in scales.items()})
        rows = []
        for feed, real in zip(self._feeds[which], self._real[which], strict=True):
            seen = iter(self._session.run(None, {**feed, **given, **real}))
            row = []
            for told in self._told:
                true = real[_input_name(told)]
                if told.judged is Judged.ENERGY:
                    row.append(decibels(_energy(true), float(next(seen))))
                else:
                    row.append(_overlap_db(true, told.axis, next(seen), next(seen)))
            rows.append(float(np.mean(row)))
        return np.array(rows)

    def _run_real(self, model: ir.Model, count: int) -> None:
        job = self._job
        assert job.samples is not None  # checked by the caller
        count = min(count, len(job.samples))
        chosen = range(0, len(job.samples) // count * count, len(job.samples) // count)
        copy = model.clone()
        values = _values(copy)
        copy.graph.outputs[:] = [values[told.name] for told in self._told]
        session, kept = _session(copy), 0
        feeds = checked_feeds(
            Subset(job.samples, chosen), expected_inputs(model.graph, job.file.spec)
        )
        for _, feed in feeds:
            outputs = session.run([told.name for told in self._told], feed)
            kept += sum(array.nbytes for array in outputs)
            if kept > KEPT_BYTES and len(self._real) > 1:
                break
            self._feeds.append(feed)
            self._real.append(
                {
                    _input_name(told): _judged(array, told)
                    for told, array in zip(self._told, outputs, strict=True)
                }
            )

    def _given(self, scales: Mapping[str, Scale]) -> dict[str, Array]:
        given: dict[str, Array] = {}
        for name, (step, zero) in self._inputs.items():
            scale = scales[name]
            given[step] = np.asarray(scale.scale, np.float32)
            given[zero] = np.asarray(scale.zero_point, scale.form.dtype)
        return given

    def _rounded(self, model: ir.Model, grids: WeightGrids) -> ir.Model:
        job, copy = self._job, model.clone()
        placement = replace(job.policy.place(copy.graph, job.floats), rereadings={})
        insert(
            copy,
            placement,
            dict.fromkeys(placement.tensors, Scale(1.0, 0, job.policy.form)),
            integer_bias=False,
            half=job.half,
            form=grids.form,
            weight_scales=grids.scales,
            rounded=grids.rounded,
        )
        tensors = set(placement.tensors)
        for node in copy.graph:
            source = node.inputs[0] if node.op_type == "QuantizeLinear" else None
            if source is not None and source in tensors:
                self._inputs[source.name or ""] = _as_inputs(copy.graph, node)
        values = _values(copy)
        copy.graph.outputs.clear()
        for told in self._told:
            _compare(copy.graph, values[told.name], told)
        return copy


def _values(model: ir.Model) -> dict[str, ir.Value]:
    return {value.name or "": value for node in model.graph for value in node.outputs}


def _input_name(told: Telling) -> str:
    """Of the float network's numbers, or probabilities, in the session of the rounded one."""
    return f"{told.name}/real"


def _as_inputs(graph: ir.Graph, node: ir.Node) -> tuple[str, str]:
    """Let whoever runs the graph give scale and zero point of a QuantizeLinear, and of its DQ."""
    import onnx_ir as ir

    names = []
    for value in node.inputs[1:3]:
        assert value is not None  # inserted with both
        name = value.name or ""
        del graph.initializers[name]
        value.const_value, value.shape = None, ir.Shape([])
        graph.inputs.append(value)
        names.append(name)
    return names[0], names[1]


def _compare(graph: ir.Graph, made: ir.Value, told: Telling) -> None:
    """One output more, the noise's energy; or two, by class: sum of min(P, R) and sum of R."""
    import onnx_ir as ir

    def node(op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        added = ir.node(op_type, inputs, attributes)
        graph.append(added)
        added.name = added.outputs[0].name = f"{told.name}/{op_type}{len(graph)}"
        result: ir.Value = added.outputs[0]
        return result

    real = ir.val(_input_name(told), type=ir.TensorType(ir.DataType.FLOAT), shape=made.shape)
    graph.inputs.append(real)
    if told.judged is Judged.ENERGY:
        found = [node("ReduceSumSquare", node("Sub", made, real), keepdims=0)]
    elif told.axis is None:
        chances = node("Sigmoid", made)
        found = [
            node("ReduceSum", value, keepdims=0) for value in (node("Min", chances, real), chances)
        ]
    else:
        rank = len(made.shape or ())
        axes = np.array([axis for axis in range(rank) if axis != told.axis], np.int64)
        name = f"{told.name}/axes"
        others = ir.val(name, const_value=ir.tensor(axes, name=name))
        graph.register_initializer(others)
        shares = node("Softmax", made, axis=told.axis)
        both = [node("Min", shares, real), shares]
        found = [node("ReduceSum", value, others, keepdims=0) for value in both]
    for value in found:
        value.type = ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(value)


def _judged(array: Array, told: Telling) -> Array:
    """Probabilities where those are judged, else the numbers themselves."""
    if told.judged is Judged.ENERGY:
        return array
    if told.axis is None:
        return np.asarray(1 / (1 + np.exp(-np.clip(array, -80, 80))), np.float32)
    raised: NDArray[np.float32] = np.exp(array - array.max(axis=told.axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=told.axis, keepdims=True), np.float32)


def _overlap_db(true: Array, axis: int | None, least: Array, made: Array) -> float:
    """Args: P, the axis of its classes, then by class the sums of min(P, R) and of R."""
    axes = tuple(other for other in range(true.ndim) if other != axis)
    real = np.atleast_1d(np.sum(true, axis=axes, dtype=np.float64))
    expected = real >= min(FEWEST_POSITIONS, float(real.max()))
    most = np.maximum(real + made - least, _TINY)  # max(a, b) = a + b - min(a, b)
    overlap = float(np.mean((np.atleast_1d(least) / most)[expected]))
    return decibels(1.0, 1.0 - overlap)


def _energy(array: Array) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))


def _session(model: ir.Model) -> Any:
    """No integer kernels: the error is the one that Q/DQ defines."""
    options = lean_options()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return open_session(model, options)
