"""Trained networks that nobody here wrote, and real images for them in three disjoint sets.

    from benchmarks.workloads import load_workload
    workload = load_workload("ocr-detector", Path("cache"))
    workload.model, workload.samples["calibration"], workload.metric

Networks, photographs and fonts come out of pinned wheels, text images and prose out of the folder
that ``EDGEPORT_DATA`` names; nothing of it is committed. A set never shares a photograph, a cut-out
line or a sentence with another one, and is drawn from its seed alone.
"""

from __future__ import annotations

from benchmarks.workloads.catalogue import WORKLOADS, Workload, load_workload
from benchmarks.workloads.sources import SETS

__all__ = ["SETS", "WORKLOADS", "Workload", "load_workload"]
