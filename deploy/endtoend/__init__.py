"""Latency from picture to answer: what an application waits for, step by step.

    frames.py       which sources have frames that still have to be decoded
    preparing.py    one frame from files to answer; the same code runs on a board
    worker.py       one file's whole frame in a process of its own
    answers.py      post-processing: from outputs to what an application works with
    benching.py     several files in turns; every step with its statistics and its share
    showing.py      the table of ``edgeport bench --end-to-end``

The steps are marked where they happen (``exporters.spans``), so the code that is timed is the code
that prepares samples for every other command.
"""
