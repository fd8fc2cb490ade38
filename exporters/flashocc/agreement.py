"""Does the exported graph compute what the trained network computes? Asked before it is written.

The network is run eagerly in PyTorch as it was trained (BatchNorm, linear head, axes swapped), the
graph in ONNX Runtime. Logits may differ by rounding, ``|difference| <= tolerance``; a label may
differ only where eager's two best classes are closer than twice that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import EdgeportError
from exporters.flashocc.geometry import View
from exporters.flashocc.inference import CameraInput
from exporters.flashocc.model import FlashOcc
from exporters.flashocc.preprocess import resize_and_crop

if TYPE_CHECKING:
    import onnx

RELATIVE_TOLERANCE = 1e-3
"""Of the logits' standard deviation. Float32 through 80 layers gives about 1e-5."""


@dataclass(frozen=True)
class Agreement:
    """Exported graph against eager PyTorch, all samples together.

    Attributes:
        tolerance: largest difference of logits that is allowed.
        max_difference: largest difference of logits that was found.
        labels: voxels compared.
        ties: labels that differ where eager's two best classes are within twice the tolerance.
        exceptions: labels that differ although they are further apart.
    """

    samples: int
    tolerance: float
    max_difference: float
    labels: int
    ties: int
    exceptions: int

    @property
    def holds(self) -> bool:
        return self.max_difference <= self.tolerance and self.exceptions == 0

    @classmethod
    def over(cls, results: Sequence[Agreement]) -> Agreement:
        """Several samples as one."""
        if not results:
            raise EdgeportError("no sample to compare the exported graph on")
        return cls(
            samples=len(results),
            tolerance=min(result.tolerance for result in results),
            max_difference=max(result.max_difference for result in results),
            labels=sum(result.labels for result in results),
            ties=sum(result.ties for result in results),
            exceptions=sum(result.exceptions for result in results),
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}

    def __str__(self) -> str:
        return (
            f"logits differ by at most {self.max_difference:.2g} (tolerance {self.tolerance:.2g}), "
            f"{self.ties + self.exceptions} of {self.labels} labels differ, "
            f"{self.exceptions} of them not by a tie"
        )


def compare(
    network: FlashOcc,
    proto: onnx.ModelProto,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    resize_to: View | None = None,
) -> Agreement:
    """Run both on every sample.

    Args:
        network: as trained, in eval mode.
        proto: the exported graph with output ``labels`` or ``logits``.
        samples: inputs of the graph.
        resize_to: for a graph that resizes pictures itself: the same is done by Pillow for eager.
    """
    session, outputs = open_graph(proto)
    results = []
    for sample in samples:
        expected = _eager(network, proto, sample, resize_to)
        found = dict(zip(outputs, session.run(list(outputs.values()), dict(sample)), strict=True))
        results.append(_compare_one(expected, found))
    return Agreement.over(results)


def _compare_one(expected: NDArray[np.float32], found: Mapping[str, NDArray[Any]]) -> Agreement:
    if "labels" in found:
        return compare_logits(expected, found["volume"].transpose(3, 2, 0, 1), found["labels"])
    return compare_logits(expected, found["logits"], found["logits"].argmax(-1))


def compare_logits(
    expected: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[Any]
) -> Agreement:
    """One sample: eager logits ``[nx, ny, nz, classes]`` against the graph's logits and labels."""
    best = np.partition(expected, -2, axis=-1)
    gap = best[..., -1] - best[..., -2]
    tolerance = RELATIVE_TOLERANCE * float(expected.std())
    different = labels != expected.argmax(-1)
    exceptions = int(np.count_nonzero(different & (gap > 2 * tolerance)))
    return Agreement(
        samples=1,
        tolerance=tolerance,
        max_difference=float(np.abs(logits - expected).max()),
        labels=labels.size,
        ties=int(np.count_nonzero(different)) - exceptions,
        exceptions=exceptions,
    )


def open_graph(
    proto: onnx.ModelProto, inner: Mapping[str, str] | None = None
) -> tuple[Any, dict[str, str]]:
    """An ONNX Runtime session, and the names of its outputs by what they are.

    With labels there is also ``volume``, ``[z, class, y, x]``: the input of the last argmax.

    Args:
        inner: further values of the graph, by what they are. They become outputs of a copy.
    """
    import onnx
    import onnxruntime as ort

    names = {value.name: value.name for value in proto.graph.output}
    wanted = dict(inner or {})
    if "labels" in names:
        argmax = [node for node in proto.graph.node if node.op_type == "ArgMax"]
        wanted["volume"] = argmax[-1].input[0]
    graph = onnx.ModelProto()
    graph.CopyFrom(proto)
    for value in wanted.values():
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, names | wanted


def _eager(
    network: FlashOcc,
    proto: onnx.ModelProto,
    sample: Mapping[str, NDArray[Any]],
    resize_to: View | None,
) -> NDArray[np.float32]:
    import torch

    names = [value.name for value in proto.graph.input]
    arrays = [sample[name] for name in names]
    if resize_to is not None:
        arrays[0] = np.stack([resize_and_crop(picture, resize_to) for picture in arrays[0]])
    images, *tables = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    with torch.no_grad():
        planes = CameraInput()(images) if images.dtype == torch.uint8 else images
        logits: NDArray[np.float32] = network(planes, *tables).numpy()
    return logits
