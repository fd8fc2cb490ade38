"""The number that a task is judged by, and how a user names an own one.

A metric is made anew for each model, sees each sample's outputs and ground truth once, and gives
one number of which higher is better:

    class Recall:
        unit = "%"
        def update(self, outputs, labels): ...
        def value(self): return 100.0 * self.hits / self.objects

``--metric mymodule:Recall`` names it. A plain function ``f(outputs, labels) -> float`` does too;
its values are averaged over the samples.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.metrics.occupancy import MASK_CAMERA, SEMANTICS, OccupancyMIoU
from exporters.errors import UserError, did_you_mean
from exporters.modelfile import ModelSpec, OutputSpec

Array = NDArray[Any]
Arrays = Mapping[str, Array]


class Metric(Protocol):
    """One number for a model on a sample set; higher is better."""

    @property
    def unit(self) -> str: ...

    def update(self, outputs: Arrays, labels: Arrays) -> None: ...

    def value(self) -> float:
        """NaN where nothing was seen to judge."""
        ...


MakeMetric = Callable[[], Metric]


class OutputMIoU:
    """mIoU of the output that holds occupancy labels or logits."""

    unit = "%"

    def __init__(self, output: OutputSpec, classes: int) -> None:
        self._output = output
        self._miou = OccupancyMIoU(classes, output.details.get("free_class"))

    def update(self, outputs: Arrays, labels: Arrays) -> None:
        prediction = outputs[self._output.name]
        if self._output.semantics.endswith("logits"):
            prediction = prediction.argmax(axis=-1)
        self._miou.update(prediction, labels)

    def value(self) -> float:
        return self._miou.value()


class SampleMean:
    """A function of one sample, averaged."""

    unit = ""

    def __init__(self, function: Callable[[Arrays, Arrays], float]) -> None:
        self._function = function
        self._values: list[float] = []

    def update(self, outputs: Arrays, labels: Arrays) -> None:
        self._values.append(float(self._function(outputs, labels)))

    def value(self) -> float:
        return float(np.mean(self._values)) if self._values else float("nan")


def find_metric(name: str, spec: ModelSpec | None) -> MakeMetric:
    """The metric called ``name``, or the class or function at ``module:attribute``.

    Raises:
        UserError: no such metric, module or attribute, or the model has no output it could judge.
    """
    if ":" in name:
        return _own_metric(name)
    if name not in BUILT_IN:
        raise UserError(
            f"unknown metric {name!r}", fix=did_you_mean(name, [*BUILT_IN, "module:function"])
        )
    return BUILT_IN[name](spec)


def _miou(spec: ModelSpec | None) -> MakeMetric:
    output = occupancy_output(spec)
    if output is None or spec is None:
        raise UserError(
            "the model file declares no occupancy output, which mIoU needs",
            fix="Export the model with edgeport, or name your own --metric module:function",
        )
    return lambda: OutputMIoU(output, len(spec.classes))


BUILT_IN: dict[str, Callable[[ModelSpec | None], MakeMetric]] = {"miou": _miou}


def default_metric(spec: ModelSpec | None) -> str | None:
    """The metric of the model's task, where there is one."""
    return "miou" if occupancy_output(spec) is not None else None


def has_ground_truth(labels: Arrays, spec: ModelSpec | None) -> bool:
    """Whether ``labels`` hold what the default metric of the model needs, for its grid."""
    output = occupancy_output(spec)
    if output is None or not {SEMANTICS, MASK_CAMERA} <= labels.keys():
        return False
    return labels[SEMANTICS].shape == tuple(output.shape[:3])


def occupancy_output(spec: ModelSpec | None) -> OutputSpec | None:
    for output in spec.outputs if spec is not None else ():
        if output.semantics in ("occupancy-labels", "occupancy-logits"):
            return output
    return None


def _own_metric(name: str) -> MakeMetric:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # a user's module lies where the command is typed
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"--metric {name}: cannot import {module_name!r}: {error}",
            fix="Type the command in the folder that holds the module, or install it",
        ) from error
    finally:
        sys.path.remove(here)
    found: Any = getattr(module, attribute, None)
    if not callable(found):
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UserError(
            f"--metric {name}: {module_name!r} has no function or class {attribute!r}",
            fix=did_you_mean(attribute, public),
        )
    is_class = inspect.isclass(found)  # asked apart: isinstance would make mypy forget Any
    return found if is_class else lambda: SampleMean(found)
