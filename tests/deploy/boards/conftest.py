from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.boards.sshd import SSHD, Board, running_board


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    pytest.importorskip("asyncssh", reason="the extra board is not installed")
    if not Path(SSHD).exists():
        pytest.skip("no sshd: install openssh-server")
    with running_board(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture
def board(server: Board, tmp_path: Path) -> Board:
    """The module's server with an empty cache."""
    import shutil

    shutil.rmtree(server.cache, ignore_errors=True)
    return server
