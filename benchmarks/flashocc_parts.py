"""FlashOcc as model files with sample sets, for comparing quantizers: trained, and M0 in parts.

    image   one camera image -> ResNet-50, FPN, depth net   [1, 3, 256, 704] -> depth, context
                                                            (logits of the depth bins, features)
    bev     pooled BEV map -> encoder, neck, head           [1, 64, 200, 200] -> logits
    m0      six camera images -> logits, all of it
    mini    the same of flashocc-mini, whose weights were trained on the generated world

Logits are those that labels are made of, before they are turned around: ``edgeport export
--logits`` ends with a Transpose of 46 MB that no vehicle runs, and that takes ONNX Runtime longer
than all the rest of an INT8 miniature (156 of 213 ms).

Weights of the first three are seeded random ones with the statistics of trained networks: gains
of BatchNorm spread from 0.5 to 1.5 and its shifts by 0.2, its means and variances measured on
frames of the generated world. Residual branches have full weight, so that the network amplifies
what a quantizer does to it: harder than a trained one, and therefore good for ranking quantizers.
Not for anything else. What is claimed of FlashOcc is claimed of ``mini``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from calibration.samples import NpzSamples, open_samples, write_samples
from calibration.samples.base import InMemorySamples, inputs_of
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from exporters.flashocc.inference import InferenceModel
    from exporters.flashocc.model import FlashOcc

Array = NDArray[Any]

SEED = 0
MEASURED_FRAMES = 2
"""Frames that BatchNorm's statistics come from; neither calibration nor held-out frames."""


@dataclass(frozen=True)
class Part:
    """A model file and two disjoint sets of samples.

    Attributes:
        calibration: a folder of ``.npz`` files.
    """

    name: str
    model: Path
    calibration: Path
    held_out: Path

    def feeds(self) -> list[dict[str, Array]]:
        """Of the held-out set."""
        return [inputs_of(sample) for sample in NpzSamples.open(self.held_out)]


RANDOM = ("image", "bev", "m0")
NAMES = (*RANDOM, "mini")


def make_parts(folder: Path, *, samples: int = 8) -> list[Part]:
    """All parts, written below ``folder``; what is there already is taken as it is."""
    parts = [
        Part(name, folder / f"{name}.onnx", folder / f"{name}.cal", folder / f"{name}.held")
        for name in NAMES
    ]
    folder.mkdir(parents=True, exist_ok=True)
    named = {part.name: part for part in parts}
    if not all(named[name].held_out.exists() for name in RANDOM):
        _write(folder, named, samples)
    if not named["mini"].held_out.exists():
        _write_trained(named["mini"], samples)
    return parts


def as_labels_read_them(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without a Transpose at the end; the output keeps its name."""
    nodes, (first, *_) = proto.graph.node, proto.graph.output
    last = next((n for n in nodes if n.output[0] == first.name and n.op_type == "Transpose"), None)
    if last is None:
        return proto
    maker = next(node for node in nodes if node.output[0] == last.input[0])
    sizes = [dim.dim_value for dim in first.type.tensor_type.shape.dim]
    turned = [0] * len(sizes)
    for place, axis in enumerate(last.attribute[0].ints):
        turned[axis] = sizes[place]
    for dim, size in zip(first.type.tensor_type.shape.dim, turned, strict=True):
        dim.dim_value = size
    maker.output[0] = first.name
    nodes.remove(last)
    return proto


def _write_trained(part: Part, samples: int) -> None:
    import onnx

    from exporters import export

    export("flashocc-mini", part.model, logits=True, overwrite=True)
    spec = ModelFile(part.model).require_spec()
    onnx.save(as_labels_read_them(onnx.load(part.model)), part.model)
    rows = [inputs_of(sample) for sample in open_samples(f"synthetic:{2 * samples}:7", spec)]
    write_samples(InMemorySamples(rows[:samples]), part.calibration)
    write_samples(InMemorySamples(rows[samples:]), part.held_out)


def _write(folder: Path, parts: Mapping[str, Part], samples: int) -> None:
    import onnx
    import torch

    from exporters import export

    checkpoint = folder / "m0.pth"
    frames = _frames(folder, 2 * samples + MEASURED_FRAMES)
    network = _network(frames[:MEASURED_FRAMES])
    torch.save(network.state_dict(), checkpoint)
    export("flashocc-m0", parts["m0"].model, checkpoint=checkpoint, logits=True, overwrite=True)
    for name, proto in {**_branches(network), "m0": onnx.load(parts["m0"].model)}.items():
        onnx.save(as_labels_read_them(proto), parts[name].model)
    used = frames[MEASURED_FRAMES:]
    for part, chosen in (("calibration", used[:samples]), ("held_out", used[samples:])):
        for name, rows in _feeds(network, chosen).items():
            write_samples(InMemorySamples(rows), getattr(parts[name], part))


def _frames(folder: Path, count: int) -> list[Array]:
    """Images of ``count`` frames of the generated world, uint8 ``[6, H, W, 3]``."""
    from exporters import export

    described = folder / "described.onnx"
    export("flashocc-m0", described, overwrite=True)
    spec = ModelFile(described).require_spec()
    described.unlink()
    return [inputs_of(sample)["images"] for sample in open_samples(f"synthetic:{count}:7", spec)]


def _network(frames: list[Array]) -> FlashOcc:
    import torch
    from torch import nn

    from exporters.flashocc.config import M0
    from exporters.flashocc.exporter import build_network, make_geometry
    from exporters.flashocc.inference import CameraInput
    from exporters.flashocc.options import ExportOptions
    from exporters.flashocc.weights import find_source

    options = ExportOptions.parse({"seed": SEED})
    source = find_source("flashocc-m0", options)
    assert source.config == M0
    network, _ = build_network(source, make_geometry(source.config, options))
    generator = torch.Generator().manual_seed(SEED)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.normal_(0, 0.2, generator=generator)
        norm.reset_running_stats()
        norm.momentum = None  # statistics as they are, not a moving average
        norm.train()
    with torch.no_grad():
        for frame in frames:
            network(CameraInput()(torch.from_numpy(frame)))
    return network.eval()


def _branches(network: FlashOcc) -> dict[str, onnx.ModelProto]:
    """Graphs of the two parts."""
    import torch

    from exporters.flashocc.inference import InferenceModel
    from exporters.trace import trace

    folded = InferenceModel(network, inputs="float", logits=True).eval()
    image, bev = torch.zeros(1, 3, 256, 704), torch.zeros(1, 64, 200, 200)
    with torch.no_grad():
        return {
            "image": trace(_image_branch(folded), {"image": image}, ["depth", "context"]),
            "bev": trace(_bev_branch(folded), {"bev": bev}, ["logits"]),
        }


def _image_branch(whole: InferenceModel) -> nn.Module:
    from torch import nn

    class ImageBranch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.img_backbone, self.img_neck = whole.img_backbone, whole.img_neck
            self.depth_net = whole.img_view_transformer.depth_net

        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            both = self.depth_net(self.img_neck(*self.img_backbone(image)))
            bins = whole.img_view_transformer.depth_bins
            return both[:, :bins], both[:, bins:]

    return ImageBranch().eval()


def _bev_branch(whole: InferenceModel) -> nn.Module:
    from torch import nn

    class BevBranch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.img_bev_encoder_backbone = whole.img_bev_encoder_backbone
            self.img_bev_encoder_neck = whole.img_bev_encoder_neck
            self.occ_head = whole.occ_head

        def forward(self, bev: Tensor) -> Tensor:
            levels = self.img_bev_encoder_backbone(bev)
            logits: Tensor = self.occ_head(self.img_bev_encoder_neck(*levels))
            return logits

    return BevBranch().eval()


def _feeds(network: FlashOcc, frames: list[Array]) -> dict[str, list[dict[str, Array]]]:
    """Samples of every part: one camera after the other, the BEV map of a frame, the frame."""
    import torch

    from exporters.flashocc.inference import CameraInput

    rows: dict[str, list[dict[str, Array]]] = {name: [] for name in RANDOM}
    with torch.no_grad():
        for index, frame in enumerate(frames):
            planes = CameraInput()(torch.from_numpy(frame))
            camera = index % len(planes)
            bev = network.img_view_transformer(network.img_neck(*network.img_backbone(planes)))
            rows["image"].append({"image": planes[camera : camera + 1].numpy().copy()})
            rows["bev"].append({"bev": bev.numpy().copy()})
            rows["m0"].append({"images": frame})
    return rows
