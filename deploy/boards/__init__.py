"""Boards: models measured where they will run, over plain SSH.

    address.py      ssh://user@host:port
    inventory.py    many boards in one file
    connection.py   one SSH connection: commands, files by hash, errors in words, reconnecting
    onboard/        what runs on the board, zipped into one file by bundling.py
    jobs.py         what the board is asked to do, as the JSON that it reads
    running.py      a job from upload to result, across broken connections
    benching.py     latencies of several files on one board, as a benchmark's result
    energy.py       joules per frame from the board's telemetry
    conditions.py   clocks, throttling and load meanwhile, and the warnings that follow

On the board everything lies in ``~/.cache/edgeport``: files by their SHA-256, engines by what they
were built from, one folder a job, which is removed when its result is here.
"""
