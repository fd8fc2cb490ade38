"""``edgeport bench``: several files timed against each other in one interleaved run."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.bench_text import tell_bench
from deploy.boards.connection import Access
from deploy.boards.endtoend import show_frames_on_boards
from deploy.boards.inventory import find_boards
from deploy.boards.jobs import ClockPlan, EnergyPlan
from deploy.boards.showing import BoardOptions, bench_boards
from deploy.boards.wishes import wishes
from deploy.console import Output
from deploy.endtoend.benching import Question
from deploy.endtoend.showing import show_end_to_end
from deploy.language.benching import TokenPlan
from deploy.language.showing import show_tokens
from deploy.loadgen import bench_with_loadgen
from deploy.local_energy import measure_energy, show_energy
from exporters.errors import EXIT_OK, UserError
from runtimes.base import Array
from runtimes.benchmark import Case
from runtimes.shapes import shape_ranges
from runtimes.timing import Plan

_WARMUP, _SETTLE_S = 3, 10.0
_SAMPLES_HELD = 4  # in memory, in every case's process; run in turn


Files = Annotated[
    list[Path], typer.Argument(help="Model files or engines; the first is the reference.")
]
RuntimeName = Annotated[
    str | None, typer.Option(help="For all files; else ONNX Runtime or TensorRT by suffix.")
]
Runs = Annotated[int | None, typer.Option(min=1, help="Exactly this many runs of each file.")]
Seconds = Annotated[
    float, typer.Option(min=0.0, help="Without --runs: at least 30 runs and this long.")
]
Warmup = Annotated[
    int | None,
    typer.Option(min=0, help="Rounds thrown away; else until medians stand still, max 10 s."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of each session; else one a core.")
]
SamplesFrom = Annotated[
    str | None, typer.Option(help="Inputs to run; else seeded random ones, which is said.")
]
Seed = Annotated[int, typer.Option(help="Of random inputs and of the order of runs.")]
BoardNames = Annotated[
    list[str] | None,
    typer.Option(
        help="ssh://user@host[:port], a Dask scheduler or an inventory file; may be repeated."
    ),
]
BoardPython = Annotated[
    str, typer.Option(help="Interpreter on the board, 3.8 or newer with numpy.")
]
BoardCache = Annotated[str, typer.Option(help="Folder on the board, from its user's home.")]
EnergySeconds = Annotated[
    float | None,
    typer.Option(min=1.0, help="Then run each file alone this many seconds: joules per frame."),
]
UntilSteady = Annotated[
    float, typer.Option(min=0.0, help="With --energy: up to this long, until it stays warm.")
]
LockClocks = Annotated[
    bool, typer.Option(help="Hold a Jetson's clocks (sudo -n), and give them back.")
]
PowerMode = Annotated[
    int | None, typer.Option(min=0, help="With --lock-clocks: this mode of nvpmodel.")
]
CudaGraph = Annotated[bool, typer.Option(help="Replay an engine's work as a CUDA graph.")]
SpinWait = Annotated[bool, typer.Option(help="Wait for the GPU by asking all the time.")]
MinShapes = Annotated[
    str, typer.Option(help="Engines: smallest input shapes, NAME:SIZExSIZE,NAME:…")
]
OptShapes = Annotated[
    str, typer.Option(help="Engines: shapes to be fastest at; alone: the shapes.")
]
MaxShapes = Annotated[str, typer.Option(help="Engines: largest input shapes.")]
TimingCache = Annotated[
    bool, typer.Option(help="Keep kernel times in the board's cache and build with them.")
]
StrictTimingCache = Annotated[
    bool, typer.Option("--strict-timing-cache", help="A kernel without a time is an error.")
]
StripWeights = Annotated[
    bool,
    typer.Option("--strip-weights", help="Engines without weights, refitted on the board."),
]
OptimizationLevel = Annotated[
    int | None, typer.Option(min=0, max=5, help="Engines: 0 fast build, 5 fast engine.")
]
WorkspaceMib = Annotated[
    int | None, typer.Option(min=1, help="Engines: memory the builder may plan with.")
]
LoadGenScenario = Annotated[
    str | None, typer.Option(help="Let MLPerf's LoadGen ask: single-stream or offline.")
]
EndToEnd = Annotated[
    bool, typer.Option("--end-to-end", help="Whole frames, from the picture to the answer.")
]
Description = Annotated[
    Path | None, typer.Option(help="With --end-to-end: YAML that says what the inputs want.")
]
PostProcessing = Annotated[
    str | None,
    typer.Option(metavar="MODULE:FUNCTION", help="With --end-to-end: your post-processing."),
]
Tokens = Annotated[
    int | None,
    typer.Option(min=1, help="Language models: tokens after a prompt, one by one."),
]
PromptTokens = Annotated[
    int, typer.Option(min=1, help="With --tokens: of the prompt, taken in at once.")
]
Kernels = Annotated[
    bool, typer.Option("--kernels", help="With --tokens: compiled kernels where there are any.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def command(
    files: Files,
    runtime: RuntimeName = None,
    runs: Runs = None,
    seconds: Seconds = 10.0,
    warmup: Warmup = None,
    threads: Threads = None,
    samples: SamplesFrom = None,
    seed: Seed = 0,
    board: BoardNames = None,
    board_python: BoardPython = "python3",
    board_cache: BoardCache = ".cache/edgeport",
    energy: EnergySeconds = None,
    until_steady: UntilSteady = 0.0,
    lock_clocks: LockClocks = False,
    power_mode: PowerMode = None,
    cuda_graph: CudaGraph = False,
    spin_wait: SpinWait = False,
    min_shapes: MinShapes = "",
    opt_shapes: OptShapes = "",
    max_shapes: MaxShapes = "",
    timing_cache: TimingCache = False,
    strict_timing_cache: StrictTimingCache = False,
    strip_weights: StripWeights = False,
    optimization_level: OptimizationLevel = None,
    workspace_mib: WorkspaceMib = None,
    loadgen: LoadGenScenario = None,
    end_to_end: EndToEnd = False,
    describe: Description = None,
    post: PostProcessing = None,
    tokens: Tokens = None,
    prompt_tokens: PromptTokens = 128,
    kernels: Kernels = False,
    as_json: AsJson = False,
) -> int:
    """Time files against each other: percentiles with 95 % intervals, throughput, memory.

    Each file runs in a process of its own and they take turns, in an order drawn anew each
    round. A percentile that the number of runs cannot support is not printed: p50 takes 6 runs,
    p90 36, p99 368. Example:

        edgeport bench m.onnx m.int8.onnx --samples samples/ --runs 400 --threads 2

        edgeport bench m.fp16.onnx m.int8.onnx --board ssh://nvidia@orin --samples samples/

    With --board model files are copied to the board, built there with its own TensorRT and
    measured there, in turns in one process; options of the builder are those of `edgeport build`.
    A broken connection is made again, and nothing stays but the cache. Several boards work at the
    same time.

    With --energy each file then runs alone: joules per frame from a board's sensors, here from
    NVIDIA GPUs (nvidia-ml-py) and from the CPU's RAPL counters; without either the energy is "not
    readable", and why is said. --lock-clocks and the options of engines are for boards.

    With --loadgen MLPerf's LoadGen measures the files here, one after the other, and its p90 and
    p99 with their early-stopping bounds stand beside ours; that is no MLPerf result.

    With --end-to-end --samples is a source of pictures (image folder, nuScenes or KITTI root,
    sample folders, synthetic:4), and what an application waits for is timed step by step: decode,
    resize, tables of the rig, copies, engine, post-processing.

        edgeport bench m.onnx m.int8.onnx --end-to-end --samples nuscenes/ --runs 100

    With --board too, a few frames and edgeport's own code go there, which needs Python 3.10 and
    Pillow on the board, and --energy then counts whole frames.

    Language models, with --tokens: tokens per second of prompt and steps; --runs are texts:

        edgeport bench float.onnx w8a8.onnx --tokens 32 --kernels

    Known limits: without --end-to-end only the runtime is timed. Latencies of engines include the
    copies to and from the GPU. Intervals take runs as independent. --end-to-end works one step
    after the other.
    """
    arguments, out = dict(locals()), Output(json=as_json)
    if tokens is not None:
        return _bench_tokens(out, files, arguments)
    plan = _plan(runs, seconds, warmup, seed)
    options = _board_options(files, arguments)
    access = Access(python=board_python, cache=board_cache)
    if end_to_end:
        whole = [Case(_name(path, files), path, (), runtime, threads) for path in files]
        question = Question(_pictures(samples), describe, post)
        _refuse("--end-to-end measures whole frames", {"--loadgen": loadgen})
        if board:
            boards = find_boards(board, access)
            return show_frames_on_boards(out, boards, whole, question, plan, options)
        _refuse("--end-to-end reads no sensors of this machine", {"--energy": energy})
        _refuse_board_options(options)
        return show_end_to_end(out, whole, question, plan)
    _refuse("only --end-to-end prepares pictures", {"--describe": describe, "--post": post})
    _refuse("compiled kernels are for --tokens", {"--kernels": kernels})
    inputs, notes = _inputs(files, samples, seed)
    cases = [
        Case(_name(path, files), path, feeds, runtime, threads)
        for path, feeds in zip(files, inputs, strict=True)
    ]
    if board:
        _refuse("boards are measured without LoadGen", {"--loadgen": loadgen})
        return bench_boards(out, find_boards(board, access), cases, plan, notes, options)
    _refuse_board_options(options)
    if loadgen:
        _refuse("LoadGen measures latencies alone", {"--energy": energy})
        return bench_with_loadgen(out, cases, loadgen, runs or 64, 0.0 if runs else seconds, notes)
    return _bench_here(out, cases, plan, notes, options.energy)


def _bench_tokens(out: Output, files: Sequence[Path], given: Mapping[str, Any]) -> int:
    """Language models; the exit code."""
    left_out = {f"--{name}": given[name] for name in ("samples", "board", "energy", "loadgen")}
    _refuse("texts are random tokens, on this machine", left_out)
    plan = TokenPlan(
        prompt=given["prompt_tokens"],
        steps=given["tokens"],
        rounds=given["runs"] or TokenPlan.rounds,
        seed=given["seed"],
        threads=given["threads"],
        kernels=given["kernels"],
    )
    return show_tokens(out, files, plan)


def _board_options(files: Sequence[Path], given: Mapping[str, Any]) -> BoardOptions:
    """From what was typed, by the names of the command's options."""
    shapes = shape_ranges(given["min_shapes"], given["opt_shapes"], given["max_shapes"])
    as_typed = ("strict_timing_cache", "strip_weights", "optimization_level", "workspace_mib")
    return BoardOptions(
        _energy_plan(given["energy"], given["until_steady"]),
        _clock_plan(given["lock_clocks"], given["power_mode"]),
        {name: given[name] for name in ("cuda_graph", "spin_wait")},
        wishes(
            files,
            shapes,
            timing_cache=given["timing_cache"] or given["strict_timing_cache"],
            **{name: given[name] for name in as_typed},
        ),
    )


def _bench_here(
    out: Output,
    cases: Sequence[Case],
    plan: Plan,
    notes: Sequence[str],
    energy: EnergyPlan | None,
) -> int:
    """Latencies on this machine, then energy where it was asked for; the exit code."""
    from runtimes import bench

    joules = None
    with out.progress("Bench") as progress:
        result = bench(cases, plan, progress)
        if energy is not None:
            joules = measure_energy(cases, energy, progress)
    tell_bench(out, result, notes)
    if joules is not None:
        show_energy(out, cases, joules)
    found = {**result.to_json(), "energy": joules and joules.to_json()}
    out.result({**found, "notes": [*notes, *result.notes]})
    return EXIT_OK


def _refuse(why: str, given: Mapping[str, object]) -> None:
    """Options that would be left out without a word."""
    for name in (name for name, value in given.items() if value):
        raise UserError(f"{name} was given, but {why}", fix=f"Leave {name} away")


def _pictures(samples: str | None) -> str:
    if samples is None:
        raise UserError(
            "--end-to-end needs pictures to start from",
            fix="Give --samples: a folder of images, a nuScenes or KITTI root, or synthetic:4",
        )
    return samples


def _plan(runs: int | None, seconds: float, warmup: int | None, seed: int) -> Plan:
    settle_s = 0.0 if warmup is not None else _SETTLE_S
    warmup = _WARMUP if warmup is None else warmup
    return Plan(warmup, runs or 30, 0.0 if runs else seconds, runs or 10_000, seed, settle_s)


def _energy_plan(seconds: float | None, until_steady: float) -> EnergyPlan | None:
    if seconds is not None:
        return EnergyPlan(seconds, until_steady)
    if until_steady:
        raise UserError("--until-steady needs --energy", fix="Add --energy SECONDS")
    return None


def _clock_plan(lock: bool, mode: int | None) -> ClockPlan | None:
    if lock:
        return ClockPlan(mode)
    if mode is not None:
        raise UserError(
            "--power-mode changes the board only while its clocks are held",
            fix="Add --lock-clocks, or set the mode there: sudo nvpmodel -m MODE",
        )
    return None


def _refuse_board_options(options: BoardOptions) -> None:
    """What only a board does; on this machine it would be left out without a word."""
    given: dict[str, object] = {
        **{f"--{name.replace('_', '-')}": True for name in options.build},
        "--lock-clocks": options.clocks is not None,
        "--cuda-graph": options.session["cuda_graph"],
        "--spin-wait": options.session["spin_wait"],
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise UserError(
            f"{name} is for boards", fix="Add --board ssh://user@host; localhost is one too"
        )


def _inputs(
    files: list[Path], samples: str | None, seed: int
) -> tuple[list[list[dict[str, Array]]], list[str]]:
    """Feeds of every file, and what a reader must know about them."""
    from runtimes.feeding import describe_random, inputs_of_file, random_feeds

    if samples is not None:
        return [_read_samples(samples, files[0])] * len(files), []
    infos = [inputs_of_file(path) for path in files]
    sentences = dict.fromkeys(describe_random(info, seed) for info in infos)
    return [[random_feeds(info, seed)] for info in infos], list(sentences)


def _read_samples(source: str, model: Path) -> list[dict[str, Array]]:
    from calibration.samples import Samples, inputs_of, open_samples
    from calibration.samples.rolling import rolled
    from exporters.modelfile import ModelFile

    file = ModelFile(model) if model.suffix == ".onnx" else None
    samples: Samples = open_samples(source, file.spec if file else None)
    if file is not None:
        samples = rolled(samples, file)
    held = [inputs_of(s) for s in itertools.islice(samples, _SAMPLES_HELD)]
    if not held:
        raise UserError(
            f"{source} holds no sample", fix="Make some: edgeport samples SOURCE -o DIR"
        )
    return held


def _name(path: Path, files: Sequence[Path]) -> str:
    """The file's name where it differs from all others, else its whole path."""
    return path.name if len({file.name for file in files}) == len(files) else str(path)
