"""``python -m tests.deploy.edgeport_main``: the command in a process that tests may kill."""

from __future__ import annotations

import signal

from deploy.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf
    main()
