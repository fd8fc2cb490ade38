"""Deploy: compare, judge, run a whole recipe, and tell what came of it.

    from deploy import load_recipe, run, verify

    verify("m.onnx", "m.int8.onnx", "samples/", contract=Contract(require=["agreement>=0.95"]))
    bundle = run(load_recipe("recipe.yaml"), "bundle")

Names are imported when they are first used; importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.budgeting import SearchOptions, quantize_to_budget, sensitivity
    from deploy.bundle import Bundle
    from deploy.comparison import Comparison
    from deploy.contract.contracts import Contract, load_contract, verdict_on
    from deploy.contract.reading import read_evidence
    from deploy.pipeline import run
    from deploy.recipe import Recipe, load_recipe
    from deploy.verdict import Check, Verdict
    from deploy.verification import verify

_HOMES = {
    # comparing
    "Comparison": "comparison",
    "verify": "verification",
    # judging
    "Check": "verdict",
    "Verdict": "verdict",
    "Contract": "contract.contracts",
    "load_contract": "contract.contracts",
    "read_evidence": "contract.reading",
    "verdict_on": "contract.contracts",
    # mixed precision
    "SearchOptions": "budgeting",
    "quantize_to_budget": "budgeting",
    "sensitivity": "budgeting",
    # running
    "Bundle": "bundle",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "run": "pipeline",
}

__all__ = [
    "Bundle",
    "Check",
    "Comparison",
    "Contract",
    "Recipe",
    "SearchOptions",
    "Verdict",
    "load_contract",
    "load_recipe",
    "quantize_to_budget",
    "read_evidence",
    "run",
    "sensitivity",
    "verdict_on",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'deploy' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deploy.{_HOMES[name]}"), name)
