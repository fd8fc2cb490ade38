"""Block after block of a checkpoint, into a file that grows: the loop of FSBR.

Two streams of activations run through the network, the float one (teacher) and that of the rounded
blocks so far (student); one layer's weights are in memory at a time. The file is written anew after
every block, under another name and then renamed, so that an interrupted run loses one block at
most. The same call goes on where the file ends: it leads both streams through the finished blocks,
which repeats every number, and so ends with the bits of a run that was never interrupted (on the
CPU: a CUDA device, which is used where there is one, sums in no fixed order).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.fsbr.plan import GATE, FsbrPlan
from calibration.fsbr.reconstruction import BlockLoss, Pieces, Task, outputs, reconstruct
from calibration.fsbr.rounding import Levels, round_rows
from calibration.fsbr.text import read_pieces
from exporters.errors import UserError
from exporters.files import require_writable
from exporters.illm.float_decoder import SINK_TOKENS, Peaks, run_layer
from exporters.illm.learned import LearnedFactors, LearnedLayer, load_learned, save_learned
from exporters.illm.options import parse_bits
from exporters.illm.rotation import in_basis
from exporters.illm.smoothing import analytic_factors
from exporters.illm.source import Layer, Source, open_source
from exporters.illm.tokenizer import Tokenizer
from exporters.illm.weights import row_rounding
from exporters.variants import Progress
from exporters.versions import tool_versions

Tell = Callable[[BlockLoss], None]


def learn_factors(
    checkpoint: Path | str,
    text: Path | str,
    output: Path | str,
    *,
    bits: str = "W4A4",
    basis: str = "rotated",
    plan: FsbrPlan | None = None,
    layers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> LearnedFactors:
    """Learn smoothing and clipping, or go on with it, and write them to ``output``.

    Args:
        checkpoint: a Hugging Face directory or a .gguf file.
        text: UTF-8; so much of it is read as ``plan`` asks for.
        output: a .safetensors file; where it holds the first blocks of the same run, they stay.
        basis: ``rotated`` or ``own``, as the export's.
        layers: stop after so many; None for all.
        overwrite: begin anew, whatever ``output`` holds.
        progress: called as ``progress(phase, done, total)``, in epochs.
        tell: called with the losses of every block that is done.

    Raises:
        UserError: bad option, checkpoint or text, or ``output`` is of another run.
    """
    chosen, path = plan or FsbrPlan(), Path(output)
    rounding = parse_bits(bits)
    source = in_basis(open_source(Path(checkpoint)), basis)
    last = _last(layers, source.config.layers)
    tokenizer = Tokenizer(source.texts, source.config.begin_token)
    pieces = read_pieces(Path(text), tokenizer, tokens=chosen.tokens, pieces=chosen.pieces)
    log = _identity(source, str(rounding), chosen, Path(text), pieces)
    learned = _begun(path, log, overwrite=overwrite)
    levels = Levels.of(rounding, chosen.swiglu_bits, mixed=source.config.mixed)
    run = _Run(source, levels, chosen, pieces)
    for index in range(last):
        tick = _ticking(progress, index, last, chosen.epochs)
        if index in learned.layers:
            run.repeat(index, learned.layers[index])
            tick(chosen.epochs)
            continue
        layer, entry, seconds = run.learn(index, tick)
        entries = [*learned.log["layers"], {**asdict(entry), "seconds": round(seconds, 1)}]
        learned = LearnedFactors(
            {**learned.layers, index: layer}, {**learned.log, "layers": entries}
        )
        save_learned(learned, path, overwrite=True)  # ours: `_begun` has seen to that
        if tell is not None:
            tell(entry)
    return learned


def _ticking(
    progress: Progress | None, index: int, layers: int, epochs: int
) -> Callable[[int], None]:
    """Takes the number of an epoch that has ended in layer ``index``."""

    def tick(epoch: int) -> None:
        if progress is not None:
            progress("learn", index * epochs + epoch, layers * epochs)

    return tick


class _Run:
    """Both streams, and the block they stand before."""

    def __init__(
        self, source: Source, levels: Levels, plan: FsbrPlan, pieces: list[list[int]]
    ) -> None:
        self._source, self._levels, self._plan = source, levels, plan
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        table = source.embedding()
        self._teacher = [torch.from_numpy(table[ids]) for ids in pieces]
        # the integer decoder has the embedding in 8 bits, one scale a token
        self._student = [round_rows(x, row_rounding(8, mixed=False)) for x in self._teacher]

    def learn(
        self, index: int, tick: Callable[[int], None]
    ) -> tuple[LearnedLayer, BlockLoss, float]:
        started = time.perf_counter()
        layer = self._source.layer(index)
        task = self._advance(index, layer)
        own: list[Tensor] = []
        if self._plan.augment:
            with torch.no_grad():
                own = [run_layer(x, layer, self._source.config) for x in self._student]
        learned, entry = reconstruct(task, Pieces(self._student, self._teacher, own), tick)
        self._student = outputs(task, learned, self._student)
        return learned, entry, time.perf_counter() - started

    def repeat(self, index: int, learned: LearnedLayer) -> None:
        task = self._advance(index, self._source.layer(index))
        self._student = outputs(task, learned, self._student)

    def _advance(self, index: int, layer: Layer) -> Task:
        """Lead the teacher through the layer, and see on the way what smoothing begins with."""
        config, plan, peaks = self._source.config, self._plan, Peaks()
        learning = len(self._teacher) - Pieces(self._student, self._teacher).judged
        skip = SINK_TOKENS if plan.tokens > 4 * SINK_TOKENS else 0
        before = self._teacher[:learning] if plan.rounding == "gptq" else ()
        with torch.no_grad():
            self._teacher = [
                run_layer(x, layer, config, peaks if i < learning else None, skip=skip)
                for i, x in enumerate(self._teacher)
            ]
        if not all(bool(torch.isfinite(x).all()) for x in self._teacher):
            raise UserError(
                f"layer {index} of the network gives NaN or infinity on the calibration text",
                fix="Check the weights, or give another --text",
            )
        pairs = plan.pairs(mixed=config.mixed)
        analytic = () if config.mixed else [pair for pair in pairs if pair != GATE]
        start = analytic_factors(layer, peaks, config, analytic)
        if GATE in pairs:
            start = replace(start, gate=np.ones(config.ffn, np.float32))
        return Task(index, layer, start, config, self._levels, plan, before, self._device)


def _last(layers: int | None, available: int) -> int:
    if layers is None:
        return available
    if not 1 <= layers <= available:
        raise UserError(f"--layers is {layers}", fix=f"The network has {available}")
    return layers


def _identity(
    source: Source, bits: str, plan: FsbrPlan, text: Path, pieces: list[list[int]]
) -> dict[str, Any]:
    tokens = hashlib.sha256(np.array(pieces, np.int64).tobytes()).hexdigest()
    return {
        "checkpoint": source.sha256,
        "bits": bits,
        "text": text.name,
        "tokens": {"sha256": tokens, "pieces": len(pieces), "each": len(pieces[0])},
        "plan": json.loads(json.dumps(asdict(plan))),
        "stored": list(source.notes),
        "tools": tool_versions("torch", "safetensors"),
        "layers": [],
    }


def _begun(path: Path, log: dict[str, Any], *, overwrite: bool) -> LearnedFactors:
    """What ``path`` holds of this run; nothing where it does not exist."""
    if overwrite or not path.is_file():
        require_writable(path, overwrite=overwrite)
        return LearnedFactors({}, log)
    begun = load_learned(path)
    other = [
        key for key in ("checkpoint", "bits", "tokens", "plan") if begun.log.get(key) != log[key]
    ]
    if other:
        raise UserError(
            f"{path} holds factors of another run: {', '.join(other)} differ",
            fix="Choose another -o, or pass --overwrite to begin anew",
        )
    return begun
