"""The forms that a network takes on its way to a device, each as something that can be run.

    PyTorch → traced → ONNX → folded → for every INT8 file: split → Q/DQ emulated → as it runs

Each rung differs from the one it stands on by the work of one part of the chain, its *owner*: what
is lost in between is that part's loss. Rungs that this machine cannot run are there without a run,
and say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.graph.prepare import changes_of, prepare
from calibration.samples.base import Array
from deploy.recipe_parts import FP16, FP32
from deploy.taps import TappedModel, runner
from exporters.errors import MissingRequirementError
from exporters.files import sha256_file
from exporters.modelfile import ModelFile, save_model
from exporters.witness import SCORES, Traced, witnessed

if TYPE_CHECKING:
    from deploy.workplace import Workplace

Run = Callable[[Mapping[str, Array]], dict[str, Array]]

PYTORCH, TRACED, ONNX, FOLDED = "PyTorch", "traced", "ONNX", "folded"
TAKEN = "the model file was taken as it is"


@dataclass(frozen=True)
class Rung:
    """One form of the network.

    Attributes:
        stage: its name, unique in a waterfall.
        owner: who answers for the difference from ``after``; empty where it all begins.
        after: the stage that it is made from.
        run: outputs by name from inputs by name, and under ``SCORES`` what labels are decided by;
            None where it cannot be run here.
        missing: why not.
        unchanged: the file computes the very same as that of ``after``, which need not be run anew.
    """

    stage: str
    owner: str = ""
    after: str = ""
    run: Run | None = None
    missing: str = ""
    unchanged: bool = False


def rungs(place: Workplace, folder: Path) -> Iterator[Rung]:
    """Every rung of a run's model files, in order.

    Args:
        folder: for temporary files; the caller's to delete.
    """
    scores = scores_of(place.file(FP32))
    yield from _before_onnx(place, folder)
    yield Rung(ONNX, "translation to ONNX", TRACED, _opened(place.path(FP32), folder, scores))
    folded = folder / "folded-model.onnx"
    if place.recipe.int8_roles:
        import onnx_ir as ir

        prepared = prepare(place.file(FP32).proto, str(place.path(FP32)))
        save_model(ir.to_proto(prepared), folded)
        run = _opened(folded, folder, scores)
        yield Rung(FOLDED, "graph optimizer", ONNX, run, unchanged=not changes_of(prepared))
    if FP16 in place.recipe.roles:
        yield Rung(FP16, "cast to FP16", ONNX, _opened(place.path(FP16), folder, scores))
    for role in place.recipe.int8_roles:
        yield from _quantized(place, role, folder, scores)


def _before_onnx(place: Workplace, folder: Path) -> Iterator[Rung]:
    """PyTorch and the traced program, as the export had them."""
    found, missing = _witnessed(place, folder)
    if found is None:
        yield Rung(PYTORCH, missing=missing)
        yield Rung(TRACED, "tracer (torch.export)", PYTORCH, missing=missing)
        return
    yield Rung(PYTORCH, run=found.eager)
    yield Rung(TRACED, "tracer (torch.export)", PYTORCH, found.program)


def _witnessed(place: Workplace, folder: Path) -> tuple[Traced | None, str]:
    from deploy import making

    if place.recipe.model.variant is None:
        return None, TAKEN
    seen = place.traced
    if not seen:  # the export was remembered, so it is done once more
        again = folder / "exported-again.onnx"
        try:
            with witnessed() as seen:
                making.export_to(place, again)
        except MissingRequirementError as error:
            return None, error.message
        if sha256_file(again) != sha256_file(place.path(FP32)):
            return None, "another export of the same gave other bytes"
    names = {value.name for value in place.file(FP32).proto.graph.output}
    fitting = [one for one in seen if set(one.outputs) == names]
    return (fitting[-1], "") if fitting else (None, "this exporter does not trace a whole module")


def _quantized(place: Workplace, role: str, folder: Path, scores: str | None) -> Iterator[Rung]:
    path, rewritten = place.path(role), place.rewritten(role)
    before = FOLDED
    if rewritten.is_file():
        before = f"{role}: split"
        yield Rung(before, "weight splitting", FOLDED, _opened(rewritten, folder, scores))
    emulated = stage_before(role)
    as_it_stands = _opened(path, folder, scores, emulate=True)
    yield Rung(emulated, "scales and rounding", before, as_it_stands)
    if role.endswith("-onnxruntime"):
        owner, stage = "integer kernels", f"{role}: ONNX Runtime, integers"
        yield Rung(stage, owner, emulated, _opened(path, folder, scores))


def stage_before(role: str) -> str:
    """The rung that an engine of ``role`` stands on."""
    return {FP32: ONNX, FP16: FP16}.get(role, f"{role}: Q/DQ emulated")


def scores_of(model: ModelFile) -> str | None:
    """The tensor that labels are decided by: what the last ArgMax reads; None without one."""
    deciding = [node.input[0] for node in model.proto.graph.node if node.op_type == "ArgMax"]
    return deciding[-1] if deciding else None


def _opened(path: Path, folder: Path, scores: str | None, *, emulate: bool = False) -> Run:
    """A session of the model file at ``path`` that also gives ``scores`` where it has them."""
    proto = ModelFile(path).proto
    known = {name for node in proto.graph.node for name in node.output}
    outputs = {value.name for value in proto.graph.output}
    tap = scores if scores in known else None
    name = f"{path.stem}-{'emulated' if emulate else 'run'}"
    tapped = TappedModel(proto, folder, name).with_outputs([tap] if tap else [], prune=False)
    run = runner(tapped, threads=None, emulate=emulate)

    def outputs_and_scores(feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = run(feeds)
        kept = {key: value for key, value in found.items() if key in outputs}
        return kept | ({SCORES: found[tap]} if tap else {})

    return outputs_and_scores
