"""A job on a board, however the board is reached: over SSH, or as a worker of a Dask cluster."""

from __future__ import annotations

from deploy.boards.address import WorkerAddress
from deploy.boards.connection import Progress
from deploy.boards.fleet import run_on_worker
from deploy.boards.inventory import Board
from deploy.boards.jobs import Job
from deploy.boards.running import BoardRun, run_on_board


def run_on(board: Board, job: Job, progress: Progress | None = None) -> BoardRun:
    """Do ``job`` on ``board``.

    Raises:
        MissingRequirementError: it cannot be reached, or lacks what the job needs.
        UserError: it refused a model or a sample.
    """
    if isinstance(board.address, WorkerAddress):
        return run_on_worker(board.address, job, board.access, progress)
    return run_on_board(board.address, job, board.access, progress)
