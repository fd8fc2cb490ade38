"""What an export had before there was an ONNX graph, for those who compare stage by stage.

    with witnessed() as seen:
        export(variant, path)
    seen[-1].eager(feeds), seen[-1].program(feeds)

Nobody pays for it who does not ask: without the context nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

Arrays = Mapping[str, NDArray[Any]]

SCORES = ""
"""Under which a run gives what the last argmax decided by, beside the outputs."""


@dataclass(frozen=True)
class Traced:
    """A module as it was handed to the tracer, and the program that the tracer made of it.

    Attributes:
        inputs, outputs: names in the order of the module's arguments and results.
    """

    module: nn.Module
    exported: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def eager(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs of the module in PyTorch, by name."""
        return self._run(self.module, feeds)

    def program(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs of the traced program in PyTorch, by name."""
        return self._run(self._program, feeds)

    @cached_property
    def _program(self) -> nn.Module:
        return self.exported.module()

    def _run(self, run: Callable[..., Any], feeds: Arrays) -> dict[str, NDArray[Any]]:
        import torch
        from torch.utils import _pytree as pytree

        arguments = [torch.from_numpy(np.array(feeds[name])) for name in self.inputs]
        with torch.no_grad(), _deciding() as scores:
            leaves = pytree.tree_leaves(run(*arguments))
        found = {name: leaf.numpy() for name, leaf in zip(self.outputs, leaves, strict=True)}
        if scores:
            found[SCORES] = scores[-1].numpy()
        return found


@contextmanager
def _deciding() -> Iterator[list[Tensor]]:
    """The arguments of every argmax that runs meanwhile."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[Tensor] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten.argmax.default:
                found.append(args[0])
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        yield found


_SEEN: ContextVar[list[Traced] | None] = ContextVar("traced", default=None)


@contextmanager
def witnessed() -> Iterator[list[Traced]]:
    """Keep every module that is traced meanwhile, in order."""
    seen: list[Traced] = []
    token = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(token)


def saw(
    module: nn.Module, program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Called by the tracer."""
    seen = _SEEN.get()
    if seen is not None:
        seen.append(Traced(module, program, tuple(inputs), tuple(outputs)))
