"""Is the candidate still the same model? A paired comparison on the task's own terms.

Both files see the same samples, one at a time, and every output is compared as what the model file
says it is: labels by agreement, floats by SQNR and cosine, occupancy by mIoU where the samples
carry ground truth. Every value has an interval, and says what loss this many samples could show.
What could not be measured, or not be decided, never counts as passed.

Models with a memory run through each sequence, each with the states that it left itself: what is
judged is the stream that a vehicle would see, errors that add up included. Only where states come
with the samples, or the candidate runs on a board, both start every step from the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from calibration.samples import open_samples
from calibration.samples.base import Samples
from calibration.samples.doctor.overlap import apart_from_calibration
from calibration.samples.findings import check_overrides
from calibration.samples.rolling import as_given, rolled
from calibration.samples.sequences import groups_of
from calibration.sensitivity.noise import Workers
from deploy.boards.inventory import Board
from deploy.boards.outputs import SamplesOnBoard
from deploy.boundaries import compare_layers
from deploy.comparison import Comparison, judge_comparison
from deploy.contract.contracts import Contract
from deploy.evaluation import judge_elsewhere
from deploy.metrics.gathering import Gathering
from deploy.provenance.loading import require_as_signed
from deploy.sessions import ONNX_SUFFIX, open_session, spec_of
from deploy.streams import Runner
from exporters.errors import UserError
from exporters.modelfile import ModelFile, ModelSpec
from runtimes.base import Progress, Session

_EMULATED = (
    "the candidate is made for TensorRT; ONNX Runtime emulates its Q/DQ, so errors are right up to "
    "rounding and kernels are not those of the engine"
)

_STREAMS = (
    "each file ran through the sequences with the states that it left itself, so errors of earlier "
    "samples count in later ones"
)


def verify(
    reference: Path | str,
    candidate: Path | str,
    samples: Samples | Path | str,
    *,
    metric: str | None = None,
    contract: Contract | None = None,
    layers: bool = False,
    threads: int | None = None,
    i_know: Iterable[str] = (),
    board: Board | None = None,
    board_runtime: str | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare ``candidate`` with ``reference`` on ``samples``.

    Args:
        reference: model file or engine that is taken as right.
        candidate: model file or engine to judge.
        samples: what ``open_samples`` takes, or an open sample set.
        metric: what ``deploy.metrics.task.find_metrics`` takes; None for the task's own where the
            samples have fitting ground truth.
        contract: what the candidate must keep; its terms on resources have no evidence here.
        layers: compare at the quantization boundaries too; both files must be ONNX.
        threads: of ONNX Runtime; None for all cores.
        board: where the candidate runs; built there if it has TensorRT. None for this machine.
        board_runtime: ``tensorrt`` or ``onnxruntime``; None for TensorRT where the board has it.
        workers: processes that run both files and judge; the result is that of one thread.
        i_know: ``overlap`` to judge by samples that a file was calibrated on; noted in the result.
        progress: called with ``samples`` and ``layers`` as phases.

    Raises:
        SamplesRefusedError: a file was calibrated on some of these samples.
        UserError: a file is not as it was signed, no samples, files that do not belong together,
            an unknown metric.
        MissingRequirementError: a file's runtime cannot run here.
    """
    reference, candidate = Path(reference), Path(candidate)
    for path in (reference, candidate):
        require_as_signed(path)
    candidate_spec = spec_of(candidate)
    spec = spec_of(reference) or candidate_spec
    opened = _opened(samples, spec)
    notes = _overlap((candidate, reference), opened, tuple(i_know))
    run = Gathering(spec, metric)
    workers = _workers(workers, board, spec)
    stepwise = rolled(opened, ModelFile(reference)) if reference.suffix == ONNX_SUFFIX else opened
    fed = as_given(opened) if board is None else stepwise
    there = _candidate(candidate, stepwise, board, board_runtime, threads, progress)
    with open_session(reference, threads=threads) as reference_session, there as candidate_session:
        run.declare_outputs(reference_session.outputs, candidate_session.outputs)
        sessions = (reference_session, candidate_session)
        notes += _judged(run, fed, (reference, candidate), sessions, workers, progress)
    emulated = candidate_session.runtime == "onnxruntime" and _is_emulated(candidate_spec)
    within = partial(compare_layers, emulate=emulated, threads=threads, progress=progress)
    inside = within(reference, candidate, stepwise) if layers else None
    overall, paired = run.outputs, run.paired()
    return Comparison(
        reference=reference.name,
        candidate=candidate.name,
        samples=tuple(run.samples),
        outputs=overall,
        parts=run.parts,
        paired=paired,
        layers=inside,
        verdict=judge_comparison(contract or Contract(), candidate.name, overall, paired, inside),
        weights=str(spec.weights) if spec is not None else "",
        notes=(*notes, *_notes(run, spec), *([_EMULATED] if emulated else [])),
    )


def _opened(samples: Samples | Path | str, spec: ModelSpec | None) -> Samples:
    opened = open_samples(samples, spec) if isinstance(samples, (str, Path)) else samples
    if len(opened) == 0:
        raise UserError("there are no samples to verify on", fix="Name others with --samples")
    return opened


def _workers(workers: Workers | None, board: Board | None, spec: ModelSpec | None) -> Workers:
    workers = workers or Workers()
    if spec is not None and spec.states and workers.backend != "serial":
        raise UserError(
            f"{spec.variant} remembers, so its samples are run in order",
            fix="Drop --jobs and --scheduler",
        )
    if board is not None and workers.backend != "serial":
        raise UserError("a board runs one sample at a time", fix="Drop --jobs and --scheduler")
    return workers


def _judged(
    run: Gathering,
    samples: Samples,
    files: tuple[Path, Path],
    sessions: tuple[Session, Session],
    workers: Workers,
    progress: Progress | None,
) -> list[str]:
    """Let every sample through both files, here or elsewhere; returns notes."""
    if workers.backend != "serial":
        judge_elsewhere(run, samples, files, workers, progress)
        return []
    ours, theirs = (Runner(session, run.judge.spec) for session in sessions)
    members = zip(samples.names, groups_of(samples), samples, strict=True)
    for index, (name, group, sample) in enumerate(members):
        run.add(name, ours(name, group, sample), theirs(name, group, sample), sample)
        if progress is not None:
            progress("samples", index + 1, len(samples))
    return [*_where(sessions[1]), *([_STREAMS] if theirs.remembers else [])]


@contextmanager
def _candidate(
    path: Path,
    samples: Samples,
    board: Board | None,
    runtime: str | None,
    threads: int | None,
    progress: Progress | None,
) -> Iterator[Session]:
    """The candidate's session, here or on a board."""
    if board is None:
        with open_session(path, threads=threads) as session:
            yield session
        return
    if path.suffix != ONNX_SUFFIX:
        raise UserError(
            f"{path} is an engine; a board builds its own",
            fix="Give the model file (.onnx) that it was built from",
        )
    remote = SamplesOnBoard(board, path, samples, runtime=runtime, progress=progress)
    try:
        yield remote
    finally:
        remote.close()


def _where(session: Session) -> list[str]:
    return [session.described()] if isinstance(session, SamplesOnBoard) else []


def _overlap(files: Iterable[Path], samples: Samples, i_know: tuple[str, ...]) -> list[str]:
    """Notes about samples that a file was calibrated on, where ``i_know`` passes over them."""
    check_overrides(i_know)
    notes = []
    for path in files:
        if path.suffix == ONNX_SUFFIX:
            known = ModelFile(path).quantization
            found = apart_from_calibration(samples, known, "evaluation", i_know).findings
            notes += [f"{finding.message}: the agreement flatters INT8" for finding in found]
    return notes


def _is_emulated(spec: ModelSpec | None) -> bool:
    """Whether an INT8 model file has its Q/DQ placed for TensorRT."""
    quantization = spec.quantization if spec is not None else None
    return quantization is not None and quantization.get("policy") == "tensorrt"


def _notes(run: Gathering, spec: ModelSpec | None) -> list[str]:
    notes = []
    if spec is not None and spec.weights.kind == "random":
        notes.append(
            f"{spec.weights}: the numbers say how well the candidate follows "
            "the reference, nothing about how good the network is"
        )
    if run.metric_name and run.judged < len(run.samples):
        notes.append(
            f"{run.judged} of {len(run.samples)} samples have ground truth for this "
            f"grid; {'no metric' if not run.judged else 'the metric is over these'}"
        )
    return notes
