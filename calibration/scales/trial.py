"""What a whole assignment of scales does to the network's outputs, many of them in one session.

Scales and zero points of the rounded network are inputs here, so that trying the next assignment is
a run and not a new file. The float outputs are computed once, and compared inside the session.
Biases stay float: in int32 they are exact enough not to matter, and their grid would depend on the
scales.

How outputs are judged says `calibration.scales.fidelity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.graph.queries import as_read, values_by_name
from calibration.graph.telling import telling_values
from calibration.observing.feeds import checked_feeds, expected_inputs
from calibration.observing.sessions import lean_options, open_session
from calibration.qdq.insertion import insert
from calibration.rounding.twin import WeightGrids
from calibration.samples.base import Array, Samples
from calibration.scales.fidelity import Real, append_sums, fidelity_db, real_of
from calibration.scales.methods import Scale

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job

KEPT_BYTES = 1 << 29
"""Of float outputs; of as many samples as that holds, two at least."""

ALL = slice(None)


class FloatRun:
    """Samples, and what the float network makes of them where its outputs are judged.

    Args:
        model: prepared; it is copied, weights are shared.
        samples: as many of them as `KEPT_BYTES` holds are run.
    """

    def __init__(self, job: Job, model: ir.Model, samples: Samples) -> None:
        self.told = telling_values(model.graph)
        self.feeds: list[dict[str, Array]] = []
        self.real: list[Real] = []
        if self.told:
            self._run(job, model, samples)

    def __len__(self) -> int:
        """How many samples there are; 0 where no output comes from numbers of both networks."""
        return len(self.feeds)

    def _run(self, job: Job, model: ir.Model, samples: Samples) -> None:
        copy = model.clone()
        values = values_by_name(copy.graph)
        names = [told.name for told in self.told]
        copy.graph.outputs[:] = [values[name] for name in names]
        session, kept = _session(copy), 0
        for _, feed in checked_feeds(samples, expected_inputs(model.graph, job.file.spec)):
            real = real_of(self.told, session.run(names, feed))
            kept += sum(array.nbytes for array in real.given.values())
            if kept > KEPT_BYTES and len(self.real) > 1:
                break
            self.feeds.append(feed)
            self.real.append(real)


class Trial:
    """The network with weights rounded and every activation's scale to be given.

    Args:
        model: prepared; it is copied, weights are shared. Its biases need not be the float run's.
        grids: what weights become.
        run: of the float network, to compare with.
    """

    def __init__(self, job: Job, model: ir.Model, grids: WeightGrids, run: FloatRun) -> None:
        self._job, self._run = job, run
        self._inputs: dict[str, tuple[str, str]] = {}
        if len(run):
            self._session = _session(self._rounded(model, grids))

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._run)

    def fidelities_db(
        self, scales: Mapping[ir.Value, Scale], which: slice = ALL
    ) -> NDArray[np.float64]:
        """Of the outputs, their mean; one number for every sample of ``which``."""
        given = self._given({value.name or "": scale for value, scale in scales.items()})
        rows = []
        for feed, real in zip(self._run.feeds[which], self._run.real[which], strict=True):
            sums = self._session.run(None, {**feed, **given, **real.given})
            rows.append(fidelity_db(self._run.told, real, sums))
        return np.array(rows)

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
        values = values_by_name(copy.graph)
        copy.graph.outputs.clear()
        for told in self._run.told:
            append_sums(copy.graph, as_read(values[told.name]), told)
        return copy


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


def _session(model: ir.Model) -> Any:
    """No integer kernels: the error is the one that Q/DQ defines."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)  # what makes labels of the numbers that are compared
    options = lean_options()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return open_session(model, options)
