from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from exporters.errors import UserError
from exporters.trace import require_known_operators, trace


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.relu(self.conv(x)) + x)
        return out


class Network(nn.Module):
    """Nested containers, a shared weight, equal constants, resizes, softplus."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(Block(), Block()), Block())
        self.softplus = nn.Softplus()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.layers(x))
        z = F.interpolate(x, size=(y.shape[2], y.shape[3]), mode="nearest")
        out: Tensor = self.softplus(y + z)
        return out


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def inputs() -> Mapping[str, Tensor]:
    return {"image": torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))}


@pytest.fixture(scope="module")
def model(network: Network, inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    return trace(network, inputs, ["result"])


def test_the_graph_computes_what_the_module_computes(
    network: Network, inputs: Mapping[str, Tensor], model: onnx.ModelProto
) -> None:
    image = inputs["image"]
    with torch.no_grad():
        expected = network(image).numpy()
    (found,) = ReferenceEvaluator(model).run(None, {"image": image.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)  # float32, a dozen operators
    large = {"image": 40 + 5 * image.numpy()}  # beyond the threshold of torch's softplus
    with torch.no_grad():
        expected = network(torch.from_numpy(large["image"])).numpy()
    assert expected.max() > 20
    (found,) = ReferenceEvaluator(model).run(None, large)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_opset_and_ir_version_are_those_that_tensorrt_8_6_reads(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


def test_a_newer_opset_on_request(network: Network, inputs: Mapping[str, Tensor]) -> None:
    model = trace(network, inputs, ["result"], opset=18)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 18


def test_nodes_are_named_by_module_and_tensors_by_node(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert "layers.0.1/conv/Conv" in names
    assert "layers.1/relu/Relu" in names
    assert "layers.0.0/Add" in names
    assert "softplus/Softplus" in names
    inner = [name for node in model.graph.node for name in node.output if name != "result"]
    assert inner == [
        f"{node.name}_output_0" for node in model.graph.node if node.output[0] in inner
    ]
    constants = {tensor.name for tensor in model.graph.initializer}
    assert "layers.0.1.conv.weight" in constants
    assert "up/Resize/scales" in constants
    assert {value.name for value in model.graph.input} == {"image"}
    assert {value.name for value in model.graph.output} == {"result"}


def test_nothing_is_computed_for_nothing(model: onnx.ModelProto) -> None:
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Conv", "Relu", "Add", "Resize", "Softplus"}
    contents = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer]
    keys = [(c.dtype.str, c.shape, c.tobytes()) for c in contents]
    assert len(set(keys)) == len(keys)


def test_attributes_that_say_the_default_are_left_out(model: onnx.ModelProto) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    assert {attribute.name for attribute in conv.attribute} <= {
        "kernel_shape",
        "pads",
        "strides",
        "dilations",
    }


def test_the_file_does_not_tell_where_it_was_made(model: onnx.ModelProto) -> None:
    text = model.SerializeToString()
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    for trail in (b".py", b"torch", b"File ", b"forward", __file__.encode()):
        assert trail not in text, trail


def test_the_same_module_gives_the_same_bytes(
    network: Network, inputs: Mapping[str, Tensor], model: onnx.ModelProto
) -> None:
    again = trace(network, inputs, ["result"])
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_a_module_without_onnx_form_is_refused(inputs: Mapping[str, Tensor]) -> None:
    class Sorting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.svd(x).S

    with pytest.raises(UserError) as caught:
        trace(Sorting(), inputs, ["result"])
    assert "Sorting has no ONNX form" in str(caught.value)
    assert "torch.onnx supports" in str(caught.value)


def parse(body: str, imports: str = "", functions: str = "") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17{imports}]>\n'
        f"main (float[2] x) => (float[2] y) {{ {body} }}\n{functions}"
    )


FUNCTION = '<domain: "edgeport", opset_import: ["" : 17]> {name} (x) => (y) {{ y = Neg(x) }}'


def test_operators_of_a_foreign_domain_are_named() -> None:
    model = parse("y = com.vendor.BEVPool(x)", ', "com.vendor" : 1')
    model.graph.node[0].name = "pool"
    with pytest.raises(UserError) as caught:
        require_known_operators(model)
    assert "com.vendor::BEVPool (pool)" in str(caught.value)
    assert "standard operators" in str(caught.value)


def test_operators_that_are_newer_than_the_file_are_named() -> None:
    with pytest.raises(UserError, match=r"not in ONNX opset 17: ai\.onnx::Gelu"):
        require_known_operators(parse("y = Gelu(x)"))


def test_foreign_operators_in_sub_graphs_are_found() -> None:
    branch = "then_branch = a () => (float[2] t) { t = com.vendor.Op(x) }"
    other = "else_branch = b () => (float[2] e) { e = Neg(x) }"
    body = f"c = Constant <value = bool {{1}}> () y = If (c) <{branch}, {other}>"
    with pytest.raises(UserError, match=r"com\.vendor::Op"):
        require_known_operators(parse(body, ', "com.vendor" : 1'))


def test_functions_that_the_file_carries_are_known() -> None:
    model = parse("y = edgeport.Fold(x)", ', "edgeport" : 1', FUNCTION.format(name="Fold"))
    require_known_operators(model)


def test_a_function_with_the_name_of_an_operator_is_refused() -> None:
    model = parse("y = edgeport.Gelu(x)", ', "edgeport" : 1', FUNCTION.format(name="Gelu"))
    with pytest.raises(UserError, match="edgeport::Gelu has the name of an ONNX operator"):
        require_known_operators(model)


class Extremes(nn.Module):
    """Reductions over an axis that no other operator names."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x.amax(2) - x.amin(2) + x.mean(2)
        return y


def test_axes_of_reductions_are_attributes_before_opset_18() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4).sin()
    proto = trace(Extremes(), {"x": x}, ["y"])
    reductions = [node for node in proto.graph.node if node.op_type.startswith("Reduce")]
    assert {node.op_type for node in reductions} == {"ReduceMax", "ReduceMin", "ReduceMean"}
    for node in reductions:
        assert len(node.input) == 1
        assert {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}["axes"] == [2]
    assert not proto.graph.initializer
    (found,) = ReferenceEvaluator(proto).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(np.asarray(found), Extremes()(x).numpy(), atol=1e-6)
