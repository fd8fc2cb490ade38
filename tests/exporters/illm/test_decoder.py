"""The integer decoder: the same bits everywhere, in any number of steps, and close to the float."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from exporters.errors import UserError
from exporters.illm import export
from exporters.illm.decoder import Cache, Outcome, Setting, decode
from exporters.illm.exporter import smoothed
from exporters.illm.float_decoder import logits as float_logits
from exporters.illm.float_decoder import observe
from exporters.illm.placing import (
    Bits,
    Placement,
    QuantizedLayer,
    quantize_layer,
    residual_exponent,
)
from exporters.illm.rotation import BASES, in_basis
from exporters.illm.sample_text import chunks, sample_text
from exporters.illm.smoothing import PAIRS, Factors, analytic_factors, smooth
from exporters.illm.source import open_source
from exporters.illm.tokenizer import Tokenizer
from exporters.illm.weights import row_rounding
from exporters.modelfile import ModelFile
from exporters.ops import NUMPY
from tests.exporters.illm.checkpoints import KINDS

Checkpoint = Callable[[str], tuple[Path, Any]]
IDS = [5, 77, 200, 3, 3, 150, 319, 8, 41, 260, 12, 99, 17, 18, 310, 7]


class Runner:
    """A model file in ONNX Runtime with its cache."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        kinds = {"tensor(int8)": "int8", "tensor(int32)": "int32", "tensor(float)": "float32"}
        self.past = {
            value.name: np.zeros([1, value.shape[1], 0, value.shape[3]], kinds[value.type])
            for value in self.session.get_inputs()
            if value.name.startswith("past")
        }

    def step(self, ids: list[int], keep: int = 0) -> dict[str, Any]:
        feeds = {"input_ids": np.array([ids]), **self.past}
        if any(value.name == "logits_to_keep" for value in self.session.get_inputs()):
            feeds["logits_to_keep"] = np.array([keep])
        outputs = dict(zip(self.names, self.session.run(None, feeds), strict=True))
        self.past = {name: outputs[name.replace("past", "present")] for name in self.past}
        return outputs


def real_logits(outputs: dict[str, Any]) -> Any:
    if "logits_mantissa" not in outputs:
        return outputs["logits"][0]
    scale = outputs["logits_mantissa"] * 2.0 ** -outputs["logits_exponent"].astype(float)
    return (outputs["logits"] * scale)[0]


def sqnr_db(right: Any, found: Any) -> float:
    return float(10 * np.log10((right**2).mean() / ((right - found) ** 2).mean()))


def in_numpy(folder: Path, ids: list[int], bits: Bits, basis: str = "own") -> Outcome:
    """The oracle: the decoder in NumPy, from the checkpoint on."""
    source = in_basis(open_source(folder), basis)
    tokens = chunks(Tokenizer(source.texts).encode(sample_text()), 128, 16)
    seen = [peaks for _, peaks in observe(source, tokens)]
    residual = residual_exponent(max(peaks.residual for peaks in seen))

    def quantized() -> Iterator[QuantizedLayer]:
        for index, peaks in enumerate(seen):
            yield quantize_layer(*smoothed(source.layer(index), peaks, "analytic", source), bits)

    c, layers = source.config, quantized()
    place = Placement(NUMPY, c, bits, 128)  # type: ignore[arg-type]
    lead = (1, 2 * c.kv_heads, 0)
    empty = Cache(
        NUMPY.constant(np.zeros((*lead, c.head_dim)), "int8"),
        NUMPY.constant(np.zeros((*lead, 1)), "int32"),
    )
    return decode(
        NUMPY.constant([ids]),
        NUMPY.constant([0]),
        [empty] * c.layers,
        place.model(source),
        lambda index: place.layer(index, next(layers)),
        Setting(c, row_rounding(bits.activations, mixed=c.mixed), residual),
    )


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_gives_the_bits_of_numpy(
    checkpoint: Checkpoint, tmp_path: Path, kind: str, basis: str
) -> None:
    folder, _ = checkpoint(kind)
    export("illm", tmp_path / "m.onnx", checkpoint=folder, basis=basis, rounding="nearest")
    found, right = Runner(tmp_path / "m.onnx").step(IDS), in_numpy(folder, IDS, Bits(), basis)
    np.testing.assert_array_equal(found["logits"], right.logits.raw)
    np.testing.assert_array_equal(found["logits_mantissa"], right.mantissa.raw)
    np.testing.assert_array_equal(found["next_token"], right.next_token.raw)
    for index, cache in enumerate(right.present):
        np.testing.assert_array_equal(found[f"present.{index}.kv"], cache.kv.raw)
        np.testing.assert_array_equal(found[f"present.{index}.scale"], cache.scale.raw)


@pytest.mark.parametrize(
    ("bits", "functions", "basis"),
    [
        ("W8A8", True, "own"),
        ("W8A8", False, "own"),
        ("W6A6", True, "own"),
        ("W4A4", True, "own"),
        ("W8A8", True, "rotated"),
        ("W6A6", False, "rotated"),
        ("W4A4", True, "rotated"),
    ],
)
def test_a_prompt_gives_what_its_tokens_give_one_by_one(
    checkpoint: Checkpoint, tmp_path: Path, bits: str, functions: bool, basis: str
) -> None:
    folder, _ = checkpoint("llama-tied")
    path = tmp_path / "m.onnx"
    options = {"functions": functions, "bits": bits, "basis": basis, "rounding": "nearest"}
    export("illm", path, checkpoint=folder, **options)
    whole, stepped = Runner(path), Runner(path)
    at_once = whole.step(IDS)
    first = stepped.step(IDS[:5])
    np.testing.assert_array_equal(first["logits"], at_once["logits"][:, :5])
    for position in range(5, len(IDS)):
        one = stepped.step(IDS[position : position + 1], keep=1)
        for name in ("logits", "logits_mantissa", "logits_exponent"):
            np.testing.assert_array_equal(one[name][:, 0], at_once[name][:, position], name)
    for name, cache in whole.past.items():
        np.testing.assert_array_equal(stepped.past[name], cache, name)
    oracle = in_numpy(folder, IDS, Bits(int(bits[1]), int(bits[3])), basis)
    np.testing.assert_array_equal(at_once["logits"], oracle.logits.raw)


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bits_are_close_to_the_float_network(
    checkpoint: Checkpoint, tmp_path: Path, kind: str
) -> None:
    folder, _ = checkpoint(kind)
    export("illm", tmp_path / "i.onnx", checkpoint=folder)
    export("illm", tmp_path / "f.onnx", checkpoint=folder, precision="float")
    right = float_logits(open_source(folder), IDS)
    in_float = real_logits(Runner(tmp_path / "f.onnx").step(IDS))
    np.testing.assert_allclose(in_float, right, atol=1e-3 * np.abs(right).max())
    # 8-bit rows and columns: each product has some 40 dB, and two layers of random weights lose ten
    assert sqnr_db(right, real_logits(Runner(tmp_path / "i.onnx").step(IDS))) > 25


def test_the_float_graph_takes_steps_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("qwen2")
    export("illm", tmp_path / "f.onnx", checkpoint=folder, precision="float")
    whole, stepped = Runner(tmp_path / "f.onnx"), Runner(tmp_path / "f.onnx")
    at_once = whole.step(IDS)["logits"]
    stepped.step(IDS[:9])
    rest = stepped.step(IDS[9:])["logits"]
    np.testing.assert_allclose(rest, at_once[:, 9:], atol=1e-3 * np.abs(at_once).max())


def test_fewer_bits_err_more_and_four_bits_are_packed(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder, _ = checkpoint("llama-untied")
    right = float_logits(open_source(folder), IDS)
    errors, sizes = [], []
    for bits in ("W8A8", "W6A6", "W4A4"):
        path = tmp_path / f"{bits}.onnx"
        result = export("illm", path, checkpoint=folder, bits=bits)
        errors.append(sqnr_db(right, real_logits(Runner(path).step(IDS))))
        sizes.append(result.model.size_bytes)
    assert errors[0] > errors[1] + 8 > errors[2] + 16  # 6 dB a bit, less what 8-bit parts add
    layer_weights = 2 * (64 * (2 * 64 + 2 * 64) + 3 * 64 * 96)
    # from 6 bits, whose rows are cut too: that takes some nodes
    assert sizes[1] - sizes[2] == pytest.approx(layer_weights / 2, rel=0.02)


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2", "llama3-rope"])
def test_smoothing_leaves_the_float_network_as_it_is(checkpoint: Checkpoint, kind: str) -> None:
    source = open_source(checkpoint(kind)[0])
    c, random = source.config, np.random.default_rng(0)

    def factors(*shape: int) -> Any:
        return np.exp(random.normal(0, 1, shape)).astype(np.float32)

    key = factors(c.kv_heads, c.head_dim // 2)
    drawn = Factors(
        attention=factors(c.hidden),
        value=factors(c.kv_heads, c.head_dim),
        key=np.concatenate([key, key], 1),
        ffn=factors(c.hidden),
        down=factors(c.ffn),
        gate=factors(c.ffn),
    )
    import torch

    from exporters.illm.float_decoder import run_layer

    hidden = torch.from_numpy(random.normal(0, 1, (12, c.hidden)).astype(np.float32))
    layer = source.layer(1)
    right = run_layer(hidden, layer, c).numpy()
    found = run_layer(hidden, smooth(layer, drawn, c), c).numpy()
    np.testing.assert_allclose(found, right, atol=1e-4 * np.abs(right).max())


def test_analytic_smoothing_narrows_the_range_of_channels(checkpoint: Checkpoint) -> None:
    source = open_source(checkpoint("llama-tied")[0])
    layer, peaks = next(observe(source, [IDS * 4]))
    factors = analytic_factors(layer, peaks, source.config)
    before, after = peaks.attention_in, peaks.attention_in / factors.attention
    assert np.log(after).std() < 0.75 * np.log(before).std()
    with pytest.raises(UserError, match=r"unknown smoothing pair 'donw'\. Did you mean 'down'"):
        analytic_factors(layer, peaks, source.config, ["donw"])
    assert set(PAIRS) <= set(Factors.__dataclass_fields__)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("llama-tied")
    one = export("illm", tmp_path / "1.onnx", checkpoint=folder).model
    two = export("illm", tmp_path / "2.onnx", checkpoint=folder).model
    assert one.sha256 == two.sha256


def test_the_file_describes_itself(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, _ = checkpoint("llama-tied")
    export("illm", tmp_path / "m.onnx", checkpoint=folder, bits="W4A8", context=64)
    spec = ModelFile(tmp_path / "m.onnx").require_spec()
    assert spec.task == "language"
    assert spec.geometry["context"] == 64
    assert spec.quantization is not None
    assert spec.quantization["weights_bits"] == 4
    graph = ModelFile(tmp_path / "m.onnx").proto.graph
    assert [port.name for port in spec.inputs] == [value.name for value in graph.input]
    assert [port.name for port in spec.outputs] == [value.name for value in graph.output]
    for state in spec.states:
        spec.output(state.output)
        spec.input(state.input)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpoint": None}, "needs a checkpoint"),
        ({"bits": "W5A8"}, r"--bits is 'W5A8'\. Write W8A8"),
        ({"precision": "integre"}, "Did you mean 'integer'"),
        ({"smoothing": "learned"}, "--smoothing is 'learned'"),
        ({"context": 0}, "--context is 0"),
        ({"rig": "x"}, "unknown export option 'rig'"),
        ({"text": "nowhere.txt"}, "cannot read calibration text"),
    ],
)
def test_bad_options_are_refused(
    checkpoint: Checkpoint, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    given = {"checkpoint": checkpoint("llama-tied")[0], **options}
    with pytest.raises(UserError, match=words):
        export("illm", tmp_path / "m.onnx", **given)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_of_another_model_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    import json
    import shutil

    folder, _ = checkpoint("llama-tied")
    shutil.copytree(folder, tmp_path / "m")
    content = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    content["model"]["vocab"]["one too many"] = len(content["model"]["vocab"])
    (tmp_path / "m" / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the tokenizer has 321 tokens, the network 320"):
        export("illm", tmp_path / "m.onnx", checkpoint=tmp_path / "m")


def test_large_weights_lie_beside_the_file(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beyond 2 GiB, with a limit that a test can reach."""
    from exporters.illm import exporter
    from exporters.modelfile import save_model

    folder, _ = checkpoint("llama-tied")
    monkeypatch.setattr(
        exporter, "save_model", lambda *a, **k: save_model(*a, **k, limit_bytes=10_000)
    )
    options = {"basis": "own", "rounding": "nearest"}
    model = export("illm", tmp_path / "m.onnx", checkpoint=folder, **options).model
    assert [file.name for file in model.data_files] == ["m.onnx.data"]
    beside = Runner(tmp_path / "m.onnx").step(IDS)["logits"]
    np.testing.assert_array_equal(beside, in_numpy(folder, IDS, Bits()).logits.raw)
