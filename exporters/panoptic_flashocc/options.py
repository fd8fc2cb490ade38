"""The options of a Panoptic-FlashOcc export: those of FlashOcc and what decides instances."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

from exporters.errors import UserError, did_you_mean
from exporters.flashocc.options import ExportOptions
from exporters.panoptic_flashocc.centres import CentreRules
from exporters.panoptic_flashocc.config import CONFIGS, TINY, PanopticConfig

ANY_VARIANT = "panoptic-flashocc"
"""The variant name that means: recognise the network from the checkpoint."""


@dataclass(frozen=True)
class PanopticOptions(ExportOptions):
    """What can be chosen; see :class:`~exporters.flashocc.options.ExportOptions`.

    Attributes:
        class_map: which classes the heatmap channels stand for, ``fixed`` or ``compat``.
        max_centres: best centres that are looked at.
        score_threshold: centres must score higher; None for the variant's own.
        thing_voxels: voxels that can be assigned in one frame.
        history: ``online`` keeps each frame's map and moves it along; ``offline`` takes past maps
            that were pooled in the current ego frame, see ``offline``. Needs ``rig="input"``.
    """

    class_map: str = "fixed"
    max_centres: int = 500
    score_threshold: float | None = None
    thing_voxels: int = CentreRules.thing_voxels
    history: str = "online"

    def panoptic(self, base: PanopticConfig) -> PanopticConfig:
        """``base`` with the options that concern the network.

        Raises:
            UserError: ``history`` is no form of it, or the rig is baked in an offline form.
        """
        if self.history not in ("online", "offline"):
            raise UserError(f"--history is {self.history!r}", fix="Choose online or offline")
        if self.history == "offline" and not self.takes_rig:
            raise UserError(
                "--history offline pools past frames where they lie now, so the rig differs "
                "from frame to frame",
                fix="Add --rig input",
            )
        return cast("PanopticConfig", self.configure(base))

    def rules(self, config: PanopticConfig) -> CentreRules:
        """What decides which centres count.

        Raises:
            UserError: a value that is none, or class names without any thing.
        """
        threshold = config.score_threshold if self.score_threshold is None else self.score_threshold
        rules = CentreRules(self.class_map, self.max_centres, threshold)
        return dataclasses.replace(rules, thing_voxels=self.thing_voxels)


def base_config(variant: str) -> PanopticConfig:
    """The configuration that ``variant`` starts from.

    Raises:
        UserError: unknown variant.
    """
    if variant == ANY_VARIANT:
        return TINY
    if variant not in CONFIGS:
        known = [*CONFIGS, ANY_VARIANT]
        raise UserError(f"unknown variant {variant!r}", fix=did_you_mean(variant, known))
    return CONFIGS[variant]
