"""A metric that a user writes, for a model that says nothing of its task, or as its own judge.

    --metric module:function      the module lies where the command is typed, or is installed

Three forms; higher is always better:

    def metric(outputs, sample): ...                                   scored on both models
    def metric(reference_outputs, candidate_outputs, sample): ...      scored on the pair
    class Metric: update(self, outputs, sample); value(self)           over the whole set

``outputs`` are arrays by output name. ``sample`` holds the inputs by name, and ground truth under
keys that start with ``label.``. A function returns a number, a dict of numbers by name, or None
where a sample has nothing to judge. What the pair form gives the reference against itself is the
best that a candidate can reach. The ``unit`` of a function or class is printed, where it has one.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from exporters.errors import UserError, did_you_mean

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Scores = dict[str, float]

Form = Literal["single", "pair", "set"]

_FORM_BY_ARGUMENTS: dict[int, Form] = {2: "single", 3: "pair"}
_FORMS = (
    "Write it as metric(outputs, sample), or as "
    "metric(reference_outputs, candidate_outputs, sample)"
)


@dataclass(frozen=True)
class OwnMetric:
    """A user's metric, one sample at a time.

    Attributes:
        name: as it was asked for, ``module:function``.
        title: what its single number is called: the function's or class's own name.
        form: ``single`` scores each model's outputs, ``pair`` both together, ``set`` is a class.
        target: the function or class.
        unit: of its numbers; empty where it says none.
    """

    name: str
    title: str
    form: Form
    target: Callable[..., Any]
    unit: str = ""

    def of_reference(self, reference: Arrays, sample: Arrays, sample_name: str = "") -> Scores:
        """Scores of the reference by name; empty where the sample has nothing to judge.

        Raises:
            UserError: the metric raised, or gave something else than finite numbers.
        """
        return self.of_candidate(reference, reference, sample, sample_name)

    def of_candidate(
        self, reference: Arrays, candidate: Arrays, sample: Arrays, sample_name: str = ""
    ) -> Scores:
        """Scores of the candidate, whose outputs have the reference's names; else as above."""
        both = (reference, candidate) if self.form == "pair" else (candidate,)
        return self._scores(self._called(*both, sample, where=sample_name), sample_name)

    def _called(self, *arguments: Arrays, where: str) -> Any:
        try:
            if self.form != "set":
                return self.target(*arguments)
            alone = self.target()
            alone.update(*arguments)
            return alone.value()
        except Exception as error:  # whatever a user's function may raise
            raise UserError(
                f"--metric {self.name} failed on sample {where!r}: {type(error).__name__}: {error}",
                fix=f"outputs: {_listed(arguments[0])}; sample: {_listed(arguments[-1])}",
            ) from error

    def _scores(self, found: Any, where: str) -> Scores:
        if found is None:
            return {}
        items = found if isinstance(found, Mapping) else {self.title: found}
        scores = {str(key): self._number(value, where) for key, value in items.items()}
        if self.form == "set":  # a set of one sample may well have nothing to judge
            return {key: value for key, value in scores.items() if not math.isnan(value)}
        broken = [key for key, value in scores.items() if not math.isfinite(value)]
        if broken:
            raise UserError(
                f"--metric {self.name} gave {scores[broken[0]]} for {broken[0]!r} on sample "
                f"{where!r}",
                fix="Return None where a sample has nothing to judge; no mean holds NaN",
            )
        return scores

    def _number(self, value: Any, where: str) -> float:
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"--metric {self.name} gave {type(value).__name__} on sample {where!r}, "
                "not a number",
                fix="Return a float, a dict of floats by name, or None",
            ) from error


def load_metric(name: str) -> OwnMetric:
    """The function or class that ``module:attribute`` names.

    Raises:
        UserError: no such module or attribute, a module that does not load, or a function that
            takes neither two nor three arguments.
    """
    found = load_own(name, "--metric")
    unit = getattr(found, "unit", "")
    unit = unit if isinstance(unit, str) else ""  # a property of a class is no word yet
    return OwnMetric(name, name.partition(":")[2], _form_of(name, found), found, unit)


def load_own(name: str, option: str) -> Any:
    """Whatever callable ``module:attribute`` names; ``option`` is what asked for it.

    Raises:
        UserError: no such module or attribute, or a module that does not load.
    """
    module_name, _, attribute = name.partition(":")
    found: Any = getattr(_module(f"{option} {name}", module_name), attribute, None)
    if not callable(found):
        module = sys.modules[module_name]
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UserError(
            f"{option} {name}: {module_name!r} has no function or class {attribute!r}",
            fix=did_you_mean(attribute, public),
        )
    return found


def _module(asked: str, module_name: str) -> ModuleType:
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        stem = Path(module_name).stem or "module"
        raise UserError(
            f"{asked}: {module_name!r} is no module name",
            fix=f"Type the command beside {stem}.py and write {stem}:FUNCTION",
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a user's module lies where the command is typed
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # the module's own code runs, and may raise anything
        absent = isinstance(error, ModuleNotFoundError) and error.name == module_name
        why = "there is no such module" if absent else f"{type(error).__name__}: {error}"
        raise UserError(
            f"{asked}: cannot import {module_name!r}: {why}",
            fix=f"Type the command in the folder that holds {module_name}.py, or install it"
            if absent
            else f"Mend it until this works: python -c 'import {module_name}'",
        ) from error
    finally:
        sys.path.remove(here)


def _form_of(name: str, found: Any) -> Form:
    if inspect.isclass(found):
        if not (callable(getattr(found, "update", None)) and hasattr(found, "value")):
            raise UserError(
                f"--metric {name}: the class has no update(outputs, sample) or no value()",
                fix=f"{_FORMS}, or give the class both",
            )
        return "set"
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # a function written in C may have none
        return "single"
    for count, form in _FORM_BY_ARGUMENTS.items():
        if _needs(signature, count):
            return form
    raise UserError(
        f"--metric {name}: {name.partition(':')[2]}{signature} is no metric", fix=_FORMS
    )


def _needs(signature: inspect.Signature, count: int) -> bool:
    """Whether exactly ``count`` arguments have to be given, and may be given by position."""
    needed = [
        p
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return len(needed) == count and all(p.kind is not p.KEYWORD_ONLY for p in needed)


def _listed(arrays: Arrays) -> str:
    return ", ".join(f"{key} {list(np.shape(value))}" for key, value in arrays.items()) or "nothing"
