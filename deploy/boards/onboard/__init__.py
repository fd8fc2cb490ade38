"""The part that runs on the board: Python 3.8 and numpy, nothing else of edgeport.

``deploy.boards.bundling`` zips this package into one file, ``python3 runner.pyz``, so nothing here
may import from outside of it but the standard library, numpy and, where they are, the runtimes.

    main.py       what the command line asks for
    probing.py    what the board is and has
    jobs.py       one job from its folder: build, measure, run; every event is a line of a log
    building.py   engines, by TensorRT's Python bindings or by trtexec
    trtexec.py    trtexec's command line as builder and as session, for JetPack 5
    sessions.py   running a file: ONNX Runtime, TensorRT
    cudart.py     the CUDA runtime through ctypes
    frames.py     whole frames, prepared by edgeport's own code, which is sent along
    warming.py    warming up until the medians stand still
    blocks.py     each case alone, for energy and heat
    telemetry.py  samples during a job, from a process of its own
    power.py      who says what the board draws, and which rails make up the whole
    conditions.py clocks, temperatures, throttling, other load
    streams.py    programs that print a line a period; tegrastats.py reads one of them
    sysfs.py      the kernel's files below a root
    clocks.py     clocks held for a job and given back whatever happens
    journal.py    the log, the lock, and errors in words
"""
