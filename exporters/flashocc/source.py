"""What is exported: a network of the FlashOcc family and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from exporters.checkpoints import NamedTensors
from exporters.flashocc.config import Config
from exporters.flashocc.shipped import SHIPPED
from exporters.modelfile import WeightsSource
from exporters.shipped import how_trained

AnyConfig = TypeVar("AnyConfig", bound=Config)


@dataclass(frozen=True)
class Source(Generic[AnyConfig]):
    """The network to export and where its weights come from.

    Attributes:
        variant: the published variant that this network is, or the family's name for another one.
        named: the checkpoint's tensors; None for random weights.
    """

    variant: str
    config: AnyConfig
    named: NamedTensors | None
    seed: int

    @property
    def origin(self) -> WeightsSource:
        if self.named is None:
            return WeightsSource("random", seed=self.seed)
        file = self.named.source
        note = how_trained(file.path) if SHIPPED.holds(file.path) else None
        return WeightsSource("checkpoint", sha256=file.sha256, note=note)
