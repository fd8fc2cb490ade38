"""TensorRT: one adapter, a dialect each for TensorRT 10.x, 11.x and TensorRT-RTX.

    adapter.py     the runtime: probe, preflight, build, load
    installed.py   which TensorRT is here, and what to type for the one a target needs
    wishes.py      build options that the builder here cannot fulfil, and why
    prepare.py     what TensorRT must never see: local functions, foreign operators
    capability.py  all refused nodes of a model, from a parser that stops at the first
    findings.py    the parser's and the table's word as one list
    advice.py      what to write instead of a refused operator (substitutes.toml)
    worker.py      the child process that parses and builds, with one logger
    configuring.py a request as the builder's configuration: shapes, effort, timing cache
    timing_cache.py  whose kernel times a cache file holds
    buildlog.py    what the builder said: memory figures, progress, why it failed
    dialects.py    what differs between the three, and every API name that is used
    foreign.py     engines without a passport: what public sources tell of the file
    layers.py      layers and their times in trtexec's JSON
    audit.py       INT8 islands, what their borders cost, where FP16 is better
    dla.py         the scales of a Q/DQ file for a DLA that takes no Q/DQ
    plain.py       a Q/DQ file without its Q/DQ
    session.py     running an engine on a CUDA device

TensorRT is never imported in the caller's process except to run an engine.
"""
