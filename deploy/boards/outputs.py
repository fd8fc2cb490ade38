"""A model file run on a board, sample by sample: what ``verify`` compares with the reference.

Samples travel in batches, so that neither the board nor this machine ever holds all of them; the
engine is built once and found in the board's cache by the next batch.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from pathlib import Path

from calibration.samples.base import Array, Samples, inputs_of
from deploy.boards.inventory import Board
from deploy.boards.jobs import BoardCase, Job
from deploy.boards.reaching import run_on
from deploy.boards.running import BoardRun
from exporters.modelfile import ModelFile
from runtimes.base import Feeds, Progress
from runtimes.signature import input_infos, output_infos

BATCH = 16
_CASE = "candidate"


class SamplesOnBoard:
    """``model`` on ``board`` as a session that is asked for ``samples`` in their order.

    Implements ``runtimes.base.Session``; the feeds that ``run`` gets are the ones it read itself.

    Attributes:
        runtime: what ran it there, known when the first answer is here.
    """

    def __init__(
        self,
        board: Board,
        model: Path,
        samples: Samples,
        *,
        runtime: str | None = None,
        batch: int = BATCH,
        progress: Progress | None = None,
    ) -> None:
        proto = ModelFile(model).proto
        self.inputs = input_infos(proto)
        self.outputs = output_infos(proto)
        self._board = board
        self._case = BoardCase(_CASE, model, runtime)
        self.runtime = runtime or ""
        self._samples = samples
        self._batch = batch
        self._progress = progress
        self._last: BoardRun | None = None
        self._answers = self._batches()

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs of the next sample.

        Raises:
            UserError, MissingRequirementError: as ``run_on``.
        """
        del feeds
        return next(self._answers)

    def execute(self, feeds: Feeds) -> dict[str, Array]:
        return self.run(feeds)

    def close(self) -> None:
        self._answers.close()

    def _batches(self) -> Generator[dict[str, Array], None, None]:
        remaining = iter(self._samples)
        while batch := [inputs_of(sample) for sample in islice(remaining, self._batch)]:
            job = Job([self._case], batch, outputs=True)
            self._last = run_on(self._board, job, self._progress)
            self.runtime = self._last.of("loaded")[0]["runtime"]
            yield from self._last.outputs[_CASE]

    def described(self) -> str:
        """One sentence about where the candidate ran."""
        assert self._last is not None  # asked for after the samples
        facts = self._last.board
        version = facts["runtimes"][self.runtime]
        name = facts.get("board") or facts.get("cpu") or facts["machine"]
        return f"the candidate ran on {self._board.name} ({name}) in {self.runtime} {version}"
