"""Boards: models measured where they will run, over plain SSH.

    address.py      ssh://user@host:port, or a worker of a cluster
    inventory.py    many boards in one file
    connection.py   one SSH connection: commands, files by hash, errors in words, reconnecting
    onboard/        what runs on the board, zipped into one file by bundling.py
    jobs.py         what the board is asked to do, as the JSON that it reads
    placing.py      which of the board's runtimes takes a case, and which files it needs there
    running.py      a job from upload to result, across broken connections
    fleet.py        the same job on the workers of a Dask cluster; onworker.py is what they do
    reaching.py     over SSH or as a worker, by the board's address
    benching.py     latencies of several files on one board, as a benchmark's result
    endtoend.py     whole frames on boards; packing.py makes what they need there
    energy.py       joules per frame from the board's telemetry
    conditions.py   clocks, throttling and load meanwhile, and the warnings that follow

On the board everything lies in ``~/.cache/edgeport``: files by their SHA-256, engines by what they
were built from, one folder a job, which is removed when its result is here.
"""
