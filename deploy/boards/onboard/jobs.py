"""One job: build what has to be built, measure all cases in turns, run the samples.

The folder of a job holds ``job.json``; this writes ``log.jsonl`` and, where outputs are wanted,
``outputs-CASE.npz``. The process belongs to nobody's connection: it goes on when the host is gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from typing import Any, Dict, List

import numpy as np

from .blocks import run_blocks
from .building import build_engine
from .clocks import HeldClocks
from .conditions import Conditions
from .frames import FrameSession, preparers
from .journal import BoardError, BoardLock, Journal
from .probing import power_mode_now, probe
from .sessions import open_session
from .sysfs import Tree
from .telemetry import Telemetry
from .warming import warm_up

Job = Dict[str, Any]
_CHUNK = 1 << 20


def run_job(folder: str) -> None:
    """Run the job in ``folder``; the last line of its log is ``end`` or ``error``."""
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    log = Journal(os.path.join(folder, "log.jsonl"))
    log.write("started", pid=os.getpid(), board=probe())
    try:
        cache = os.path.dirname(job["lock"])
        with BoardLock(job["lock"], log, job.get("wait_s", 600.0)) as lock:  # noqa: SIM117 - 3.8
            with HeldClocks(job.get("clocks"), cache, folder, log, lock.fileno()):
                _run(job, folder, log)
        log.write("end")
    except BoardError as error:
        log.write("error", message=error.message, fix=error.fix)
    except MemoryError:
        log.write("error", message="the board ran out of memory", fix="Close what else runs there")
    except OSError as error:
        log.write("error", message=f"on the board: {error}", fix="Check its disk: df -h ~/.cache")
    except Exception:  # the host must learn of a bug in words
        log.write("error", message=traceback.format_exc(), fix="", bug=True)
    finally:
        log.close()


def _run(job: Job, folder: str, log: Journal) -> None:
    if job.get("frames"):
        prepared = preparers(job, log)
        sessions = _sessions(job, [one.feeds(0) for one in prepared], log)
        framed = [FrameSession(one, two) for one, two in zip(sessions, prepared)]
        _measure_all(job, framed, list(range(prepared[0].count)), folder, log)
        return
    feeds = read_feeds(_checked(job["feeds"]))
    sessions = _sessions(job, [feeds[0]] * len(job["cases"]), log)
    if job.get("plan"):
        _measure_all(job, sessions, feeds, folder, log)
    if job.get("outputs"):
        for case, session in zip(job["cases"], sessions):
            _run_samples(case["name"], session, feeds, folder, log)


def _sessions(job: Job, firsts: List[Any], log: Journal) -> List[Any]:
    """Every case opened and run once, on the first of its feeds."""
    sessions = []
    for case, first in zip(job["cases"], firsts):
        log.write("loading", case=case["name"])
        path = _runnable(case, log)
        started = time.perf_counter()
        options = dict(case.get("options", {}), refit_from=_refitted_from(case))
        session = open_session(case["runs_in"], path, options)
        session.run(first)
        load_s = time.perf_counter() - started
        size = os.path.getsize(path)
        log.write(
            "loaded",
            case=case["name"],
            runtime=case["runs_in"],
            load_s=load_s,
            size_bytes=size,
            switches=session.switches,
        )
        sessions.append(session)
    return sessions


def _refitted_from(case: Dict[str, Any]) -> str:
    """The model file whose weights an engine without weights gets; empty for all others."""
    if not case.get("build", {}).get("strip_weights"):
        return ""
    return os.path.join(case["folder"], "model.onnx") if case.get("data") else str(case["file"])


def _measure_all(
    job: Job, sessions: List[Any], feeds: List[Any], folder: str, log: Journal
) -> None:
    """Latencies in turns, then each case alone where energy is asked for; telemetry throughout."""
    telemetry = job.get("telemetry")
    root = telemetry["root"] if telemetry else "/"
    conditions = Conditions(Tree(root))
    log.write("before", limits=conditions.limits(), power_mode=power_mode_now())
    with Telemetry(folder, telemetry):
        measure(sessions, feeds, job["plan"], log)
        if job.get("energy"):
            run_blocks(sessions, feeds, job["energy"], log, root)
    log.write("after", limits=conditions.limits(), power_mode=power_mode_now())


def measure(sessions: List[Any], feeds: List[Any], plan: Dict[str, Any], log: Journal) -> None:
    """Rounds in which every case runs once, in an order drawn anew each round."""
    order = np.random.default_rng(plan["seed"])
    log.write("warm", **warm_up(sessions, feeds, plan))
    log.write("measuring", at=time.time(), clock_s=time.monotonic())
    started, done = time.monotonic(), 0
    while not (
        done >= plan["max_runs"]
        or (done >= plan["min_runs"] and time.monotonic() - started >= plan["min_seconds"])
    ):
        for position in order.permutation(len(sessions)):
            spent = sessions[position].time(feeds[done % len(feeds)])
            log.write("run", round=done, case=int(position), at=time.time(), **spent)
        done += 1
    log.write("measured", rounds=done, at=time.time(), clock_s=time.monotonic())


def _run_samples(name: str, session: Any, feeds: List[Any], folder: str, log: Journal) -> None:
    """All outputs of all samples, in one archive that is complete or not there."""
    arrays = {}
    for index, sample in enumerate(feeds):
        for output, value in session.run(sample).items():
            arrays[f"{index}:{output}"] = value
        log.write("sample", case=name, done=index + 1, total=len(feeds))
    path = os.path.join(folder, f"outputs-{name}.npz")
    with open(path + ".partial", "wb") as file:
        np.savez(file, **arrays)
    os.replace(path + ".partial", path)
    log.write("outputs", case=name, file=os.path.basename(path), sha256=sha256(path))


def _runnable(case: Dict[str, Any], log: Journal) -> str:
    """The file that the session opens; an engine that was built before is taken as it is."""
    model = _with_data(_checked(case["file"]), case.get("data", {}), case.get("folder", ""))
    if not case.get("engine"):
        return model
    engine: str = case["engine"]
    known = engine + ".sha256"
    if os.path.exists(engine) and os.path.exists(known):
        with open(known, encoding="ascii") as file:
            if file.read().strip() == sha256(engine):
                log.write("engine", case=case["name"], cached=True, sha256=sha256(engine))
                return engine
    os.makedirs(os.path.dirname(engine), exist_ok=True)
    log.write("building", case=case["name"], runtime=case["builds_in"])
    started = time.perf_counter()
    build_engine(model, engine, case["builds_in"], case.get("build", {}), log)
    with open(known, "w", encoding="ascii") as file:
        file.write(sha256(engine))
    seconds = time.perf_counter() - started
    log.write("engine", case=case["name"], cached=False, build_s=seconds, sha256=sha256(engine))
    return engine


def _with_data(model: str, data: Dict[str, str], folder: str) -> str:
    """The model beside the files that hold its weights, under the names by which it knows them."""
    if not data:
        return model
    files = dict(data, **{"model.onnx": model})
    for name, file in files.items():
        place = os.path.join(folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if not os.path.exists(place):
            os.link(model if file == model else _checked(file), place)
    return os.path.join(folder, "model.onnx")


def _checked(path: str) -> str:
    """``path`` if it holds what its name, a SHA-256, says; a stale file is removed."""
    expected = os.path.basename(path).split(".")[0]
    if not os.path.exists(path):
        raise BoardError(f"{path} is not on the board", "Run it again: it is uploaded again")
    if sha256(path) != expected:
        os.unlink(path)
        raise BoardError(
            f"{path} was damaged on the board and is removed", "Run it again: it is uploaded again"
        )
    return path


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def read_feeds(path: str) -> List[Dict[str, Any]]:
    """Samples from one archive, keyed ``index:name`` as ``runtimes.measuring`` writes them."""
    samples: Dict[int, Dict[str, Any]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            index, name = key.split(":", 1)
            samples.setdefault(int(index), {})[name] = archive[key]
    return [samples[index] for index in sorted(samples)]
