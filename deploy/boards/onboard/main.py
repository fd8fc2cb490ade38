"""``python3 runner.pyz probe`` or ``job FOLDER``; the others it starts itself."""

from __future__ import annotations

import json
import sys

from .probing import probe


def main() -> None:
    """Do what the arguments say; anything else is a programming error of the host."""
    if sys.argv[1:] == ["probe"]:
        sys.stdout.write(json.dumps(probe()) + "\n")
    elif len(sys.argv) == 3 and sys.argv[1] == "job":
        from .jobs import run_job  # here, so that a board without numpy can be asked what it has

        run_job(sys.argv[2])
    elif len(sys.argv) == 5 and sys.argv[1] == "telemetry":
        from .telemetry import sample_until_stopped

        sample_until_stopped(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    elif len(sys.argv) == 3 and sys.argv[1] == "watchdog":
        from .clocks import watch

        watch(sys.argv[2])
    else:
        sys.exit("usage: runner.pyz probe | runner.pyz job FOLDER")
