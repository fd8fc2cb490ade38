"""What was chosen once, for every variant of a model that leaves more of it in float.

A search tries hundreds of mixtures of INT8 and float. All of them, and the file that is written in
the end, share these ranges and integers: what differs between two of them is what is float and
nothing else, and the file is the very mixture that was tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.rounding.learning import Learning
    from calibration.rounding.twin import WeightGrids
    from calibration.scales.methods import Scale


@dataclass(frozen=True)
class Decided:
    """Ranges and integers of a model with everything quantized, by name.

    Attributes:
        scales: of activations.
        methods: whose range each is, where ``auto`` had a choice.
        learning: what weights were rounded to, and what that gained.
    """

    scales: Mapping[str, Scale]
    methods: Mapping[str, str]
    grids: WeightGrids
    learning: Learning
