"""The model on the bench: quantized in any part, as often as wanted, after one pass.

Ranges are chosen once, for the model with everything quantized, and serve every variant of it. That
is what makes hundreds of variants cheap, and what a search needs: what changes between two of them
is the part that is float and nothing else. The file that is written in the end comes from
`calibration.quantizer` with the same ranges (`Decided`) and is judged by itself. Biases are
corrected in every variant, and only where the options ask for it: it multiplies a trial's time.

Ranges chosen anew for the mixture that won made worse files, not better ones: mixtures of a text
recogniser that kept 99.5 % of its lines became files that kept 96 and 97 %. Which borderline line
flips is luck, and the search had already had it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.cfws.splitting import split_weights
from calibration.graph.hard_swish import drop_floors
from calibration.job import Job
from calibration.observing.statistics import Statistics
from calibration.qdq.insertion import insert
from calibration.qdq.placement import Placement, QuantizedTensor
from calibration.qdq.policies import all_tensors
from calibration.rounding.bias import correct_biases
from calibration.rounding.grids import weight_grids
from calibration.scales.decided import Decided
from calibration.scales.methods import SCALES, Scale
from calibration.scales.ranges import choose_scales, statistics_of
from calibration.sensitivity.units import Unit, find_units
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_LARGE = 1 << 30  # bytes; a protobuf ends at twice that


@dataclass(frozen=True)
class Atom:
    """What is rounded as one: a weight, or tensors with one scale or with the same integers.

    Attributes:
        tensors: activations that are rounded; empty for a weight.
        node: name of the weighted node whose weight is rounded; empty for activations.
    """

    name: str
    tensors: tuple[str, ...] = ()
    node: str = ""


@dataclass
class Workbench:
    """A prepared model and everything that quantizes it.

    Attributes:
        model: prepared, split where the options say so, without Q/DQ; never changed.
        placement: of everything that the policy quantizes, over ``model``.
        decided: ranges of its activations and integers of its weights.
    """

    job: Job
    model: ir.Model
    placement: Placement
    decided: Decided
    statistics: Statistics

    @classmethod
    def of(cls, job: Job) -> Workbench:
        """Prepare, observe unless there are statistics, and choose ranges.

        Raises:
            SamplesRefusedError: the calibration-set doctor finds an error.
            UserError: nothing can be quantized, or an option names something that does not exist.
        """
        model = job.prepared()
        job.check(model.graph, needs_histogram=SCALES.get(job.options.scales).needs_histogram)
        job.policy.require(model.graph, str(job.file.path))
        job.diagnosis(model.graph)
        whole = all_tensors(model.graph)
        splits = split_weights(job, model)
        placement = job.policy.place(model.graph, job.floats)
        if not placement.weighted:
            raise UserError(
                f"nothing in {job.file.path} can be quantized", fix="Try: edgeport quantize"
            )
        seen = statistics_of(job, model, placement, split=bool(splits.splits), also=whole)
        grids, learning = weight_grids(job, model, placement, seen, splits.weight_scales)
        chosen = choose_scales(job, model, placement, seen, grids)
        named = {value.name or "": scale for value, scale in chosen.scales.items()}
        decided = Decided(named, chosen.methods, grids, learning)
        return cls(job, model, placement, decided, seen)

    @cached_property
    def units(self) -> list[Unit]:
        return find_units(self.model.graph, self.placement)

    @cached_property
    def atoms(self) -> list[Atom]:
        """Weights, then groups of tensors, each in graph order."""
        weights = [
            Atom(f"weight {item.node.name}", node=item.node.name or "")
            for item in self.placement.weighted
        ]
        groups: dict[ir.Value, list[ir.Value]] = {}
        for group in self.placement.groups():
            groups.setdefault(self._origin(group[0]), []).extend(group)
        named = [tuple(value.name or "" for value in group) for group in groups.values()]
        return weights + [Atom(f"tensor {names[0]}", tensors=names) for names in named]

    def _origin(self, value: ir.Value) -> ir.Value:
        """The tensor whose integers ``value`` is, as it is or read in another way."""
        while value in self.placement.rereadings:
            value = self.placement.rereadings[value].source
        return value

    @property
    def sizes(self) -> dict[str, int]:
        """Elements of the observed tensors, in an average sample."""
        count = max(len(self.statistics.sample_names), 1)
        return {n: t.elements // count for n, t in self.statistics.tensors.items()}

    def place(self, floats: Iterable[Unit]) -> Placement:
        """What the policy quantizes when ``floats`` stay float; over the bench's graph."""
        return self.job.policy.place(self.model.graph, self._variant(floats).floats)

    def floating(self) -> ir.Model:
        """A copy with nothing quantized, as it would run: folded, and without floors."""
        copy = self.model.clone()
        drop_floors(copy.graph)
        return copy

    def quantized(self, floats: Iterable[Unit] = ()) -> ir.Model:
        """A copy with everything quantized but ``floats``."""
        copy = self.model.clone()
        job = self._variant(floats)
        placement = job.policy.place(copy.graph, job.floats)
        scales = choose_scales(job, copy, placement, self.statistics).scales
        if job.options.correct_bias:
            correct_biases(job, copy, placement, scales, self.decided.grids)
        self._insert(copy, placement, scales)
        job.policy.finish(copy.graph)
        return copy

    def rounded(self, atoms: Collection[Atom]) -> ir.Model:
        """A copy with nothing quantized but ``atoms``, wherever they stand."""
        copy = self.model.clone()
        tensors = {name for atom in atoms for name in atom.tensors}
        nodes = {atom.node for atom in atoms}
        full = self.job.policy.place(copy.graph, self.job.floats)
        part = Placement(
            tensors={
                value: QuantizedTensor(value, tensor.readers, tensor.whole)
                for value, tensor in full.tensors.items()
                if value.name in tensors
            },
            weighted=[item for item in full.weighted if item.node.name in nodes],
        )
        wanted = set(part.tensors) | {item.data for item in part.weighted}
        known = self.decided.scales
        scales = {v: known[v.name or ""] for v in wanted if v.name in known}
        self._insert(copy, part, scales)
        return copy

    def _variant(self, floats: Iterable[Unit]) -> Job:
        anchors = (name for unit in floats for name in unit.anchors)
        given = {**self.job.options.given_back, **dict.fromkeys(anchors, "given back")}
        options = replace(self.job.options, given_back=given)
        return replace(self.job, options=options, decided=self.decided)

    def _insert(
        self, copy: ir.Model, placement: Placement, scales: Mapping[ir.Value, Scale]
    ) -> None:
        grids = self.decided.grids
        insert(
            copy,
            placement,
            scales,
            integer_bias=self.job.policy.integer_bias,
            half=self.job.half,
            form=grids.form,
            weight_scales=grids.scales,
            rounded=grids.rounded,
        )


def serialized(model: ir.Model) -> bytes:
    """The file's bytes, for a session in memory."""
    import onnx_ir as ir

    proto: onnx.ModelProto = ir.to_proto(model)
    data: bytes = proto.SerializeToString()
    return data


def save(model: ir.Model, path: Path) -> Path:
    """Write ``model``, large weights beside it."""
    import onnx_ir as ir

    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    ir.save(model, path, external_data=f"{path.name}.data" if size > _LARGE else None)
    return path


def atoms_of(unit: Unit, bench: Workbench) -> list[Atom]:
    """Weights of a unit, and the tensors that it reads or makes rounded."""
    nodes = set(unit.nodes)

    def touched(value: ir.Value, tensor: QuantizedTensor) -> bool:
        maker = value.producer()
        made = tensor.whole and maker is not None and maker.name in nodes
        return made or any(node.name in nodes for node, _ in tensor.readers)

    tensors = {value.name for value, t in bench.placement.tensors.items() if touched(value, t)}
    return [a for a in bench.atoms if a.node in nodes or not tensors.isdisjoint(a.tensors)]
