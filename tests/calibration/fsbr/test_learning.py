"""Learning on tiny networks: it helps, it goes on where it stopped, and it refuses bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from calibration import FsbrPlan, learn_factors
from calibration.fsbr.held import MATRICES
from calibration.fsbr.plan import PAIRS
from calibration.fsbr.reconstruction import Task, outputs
from calibration.fsbr.rounding import Levels, round_columns, round_rows
from exporters.errors import UserError
from exporters.illm import export
from exporters.illm.float_decoder import logits, rms_norm
from exporters.illm.learned import LearnedFactors, LearnedLayer, load_learned, save_learned
from exporters.illm.placing import Bits
from exporters.illm.sample_text import sample_text
from exporters.illm.smoothing import Factors
from exporters.illm.source import Source, open_source
from exporters.illm.tokenizer import Tokenizer
from exporters.ops.quantize import RowRounding
from tests.calibration.fsbr.conftest import random_words
from tests.calibration.fsbr.test_block import drawn

Folder = Callable[[str], Path]
PLAN = FsbrPlan(epochs=4, pieces=40, tokens=32, rate=2e-2, clip_rate=5e-2, rounding="nearest")
OWN = {"basis": "own", "rounding": "nearest"}
QUICK = replace(PLAN, epochs=1, pieces=4)
IDS = [5, 77, 200, 3, 3, 150, 319, 8, 41, 260, 12, 99, 17, 18, 310, 7] * 2


@pytest.fixture(scope="module")
def learned(folder: Folder, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Factors of the tiny network at W4A4, for weights that are rounded to nearest."""
    path = tmp_path_factory.mktemp("learned") / "factors.safetensors"
    learn_factors(folder("llama-tied"), text, path, bits="W4A4", basis="own", plan=PLAN)
    return path


def integer_logits(path: Path, *texts: list[int]) -> list[Any]:
    """Logits of every text, as real numbers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int8)": "int8", "tensor(int32)": "int32"}
    past = {
        value.name: np.zeros([1, value.shape[1], 0, value.shape[3]], kinds[value.type])
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    names = ["logits", "logits_mantissa", "logits_exponent"]
    found = []
    for ids in texts:
        feeds = {"input_ids": np.array([ids]), "logits_to_keep": np.array([0]), **past}
        values, mantissa, exponent = session.run(names, feeds)
        found.append((values * mantissa * 2.0 ** -exponent.astype(float))[0])
    return found


def sqnr_db(right: Any, found: Any) -> float:
    return float(10 * np.log10((right**2).mean() / ((right - found) ** 2).mean()))


def test_the_loss_falls_in_every_block(learned: Path) -> None:
    log = load_learned(learned).log
    assert [entry["layer"] for entry in log["layers"]] == [0, 1]
    for entry in log["layers"]:
        assert entry["kept"]
        # of text that was not learned from; the second block cannot undo what the first one lost
        assert entry["learned"] < (0.8, 0.97)[entry["layer"]] * entry["start"]
        assert entry["learned"] < 0.9 * entry["nearest"]
    assert log["plan"]["seed"] == 0
    assert log["bits"] == "W4A4"


def test_four_bits_are_better_than_rounding_to_nearest(
    folder: Folder, learned: Path, tmp_path: Path
) -> None:
    """The integer network in ONNX Runtime, on text that nothing was learned from."""
    checkpoint = folder("llama-tied")
    source = open_source(checkpoint)
    ids = Tokenizer(source.texts).encode(sample_text())[-120:]
    right = logits(source, ids)
    found = {}
    for name, options in {
        "nearest": {"smoothing": "none"},
        "analytic": {},
        "learned": {"factors": learned},
    }.items():
        path = tmp_path / f"{name}.onnx"
        result = export("illm", path, checkpoint=checkpoint, bits="W4A4", **OWN, **options)
        found[name] = sqnr_db(right, integer_logits(path, ids)[0])
    assert found["learned"] > found["nearest"] + 0.5, found
    assert found["learned"] > found["analytic"]
    assert "learned smoothing in 2 of 2 layers (factors.safetensors)" in result.report["says"][0]


def test_what_is_learned_for_gptq_helps_beyond_it(
    folder: Folder, text: Path, tmp_path: Path
) -> None:
    """In the rotated basis, on text that nothing was learned from; GPTQ alone is what it begins
    with, and a part of every loss.

    One text of 120 tokens says nothing: its gain deviates by 0.6 dB from another's. The mean of 32
    is known to 0.1, and was 0.6.
    """
    checkpoint, path = folder("llama-untied"), tmp_path / "factors.safetensors"
    plan = replace(PLAN, rounding="gptq", pieces=120)
    log = learn_factors(checkpoint, text, path, bits="W4A4", plan=plan).log
    assert any(entry["kept"] for entry in log["layers"])
    for entry in log["layers"]:
        assert entry["start"] < entry["nearest"]
        assert entry["kept"] == (entry["learned"] < entry["start"])
    assert log["plan"]["rounding"] == "gptq"
    assert not any(layer.clipping for layer in load_learned(path).layers.values())
    source = open_source(checkpoint)
    tokenizer, other = Tokenizer(source.texts), np.random.default_rng(5)
    texts = [tokenizer.encode(random_words(other, 100))[:120] for _ in range(32)]
    right = [logits(source, ids) for ids in texts]
    found = {}
    for name, options in {"gptq": {}, "learned": {"factors": path}}.items():
        file = tmp_path / f"{name}.onnx"
        export("illm", file, checkpoint=checkpoint, bits="W4A4", text=text, **options)
        wrong = integer_logits(file, *texts)
        found[name] = np.mean([sqnr_db(*pair) for pair in zip(right, wrong, strict=True)])
    assert found["learned"] > found["gptq"], found


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2"])
def test_the_student_computes_what_the_integer_network_does(
    folder: Folder, tmp_path: Path, kind: str
) -> None:
    """With factors of every pair, and clipping, drawn at random."""
    bits = "W8A8"  # with fewer a single rounding that falls differently changes all that follow
    checkpoint, path = folder(kind), tmp_path / "factors.safetensors"
    source, random = open_source(checkpoint), np.random.default_rng(3)
    layer = source.layer(0)
    clips = {
        name: random.uniform(0.7, 1.0, getattr(layer, name).shape[1]).astype(np.float32)
        for name in MATRICES
    }
    one = LearnedLayer(drawn(source.config, *PAIRS), clips)
    log = {"checkpoint": source.sha256, "bits": bits}
    save_learned(LearnedFactors({0: one, 1: one}, log), path)
    export("illm", tmp_path / "m.onnx", checkpoint=checkpoint, bits=bits, factors=path, **OWN)
    student = student_logits(source, one, Bits())
    integer, right = integer_logits(tmp_path / "m.onnx", IDS)[0], logits(source, IDS)
    # single roundings fall differently, no more: what parts the integer network from the float one
    # is in the student too
    assert sqnr_db(student, integer) > sqnr_db(right, integer) + 6


def student_logits(source: Source, learned: LearnedLayer, bits: Bits) -> Any:
    hidden = [round_rows(torch.from_numpy(source.embedding()[IDS]), RowRounding.whole(127))]
    for index in range(source.config.layers):
        layer = source.layer(index)
        task = Task(index, layer, Factors(), source.config, Levels.of(bits), QUICK)
        hidden = outputs(task, learned, hidden)
    normed = rms_norm(hidden[0], source.final_gain(), source.config.epsilon)
    head = round_columns(torch.from_numpy(source.head().T.copy()), 127)
    return (normed @ head).numpy()  # rows of 16 bits there


def test_an_interrupted_run_ends_with_the_same_bits(
    folder: Folder, text: Path, tmp_path: Path
) -> None:
    checkpoint, whole, parts = folder("qwen2"), tmp_path / "whole.st", tmp_path / "parts.st"
    plan = replace(QUICK, epochs=2)
    learn_factors(checkpoint, text, whole, plan=plan)

    def interrupt(phase: str, done: int, total: int) -> None:
        if done == 3:  # in the second block
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_factors(checkpoint, text, parts, plan=plan, progress=interrupt)
    assert list(load_learned(parts).layers) == [0]
    assert {file.name for file in tmp_path.iterdir()} == {"whole.st", "parts.st"}
    steps: list[tuple[int, int]] = []
    learn_factors(checkpoint, text, parts, plan=plan, progress=lambda _, *done: steps.append(done))
    assert steps == [(2, 4), (3, 4), (4, 4)]
    one, other = load_learned(whole), load_learned(parts)
    assert content(one) == content(other)
    # and once more: nothing is left to do
    assert content(learn_factors(checkpoint, text, parts, plan=plan)) == content(one)


def content(learned: LearnedFactors) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, layer in learned.layers.items():
        for name, array in {**vars(layer.factors), **layer.clipping}.items():
            found[f"{index}.{name}"] = None if array is None else array.tobytes()
    return {**found, **{f"loss {e['layer']}": e["learned"] for e in learned.log["layers"]}}


def test_the_first_layers_alone_are_of_use(folder: Folder, text: Path, tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "factors.st", folder("llama-tied")
    told: list[int] = []
    learn_factors(
        checkpoint, text, path, plan=QUICK, layers=1, tell=lambda entry: told.append(entry.layer)
    )
    result = export("illm", tmp_path / "m.onnx", checkpoint=checkpoint, bits="W4A4", factors=path)
    assert "learned smoothing in 1 of 2 layers" in result.report["says"][0]
    spec = result.model.require_spec()
    assert spec.quantization is not None
    assert spec.quantization["smoothing"] == "learned"
    assert len(spec.quantization["factors_sha256"]) == 64
    learn_factors(checkpoint, text, path, plan=QUICK, tell=lambda entry: told.append(entry.layer))
    assert told == [0, 1]


@pytest.mark.parametrize("pair", ["attention", "value", "key", "ffn", "down", "gate"])
def test_a_pair_that_is_left_out_is_not_learned(
    folder: Folder, text: Path, tmp_path: Path, pair: str
) -> None:
    choices = {"swiglu_bits": 8, "clipping": False, "augment": True, "pieces": 2}
    plan = replace(QUICK, without=(pair,), **choices)
    path = tmp_path / "factors.st"
    found = learn_factors(
        folder("llama-tied"), text, path, basis="own", plan=plan, layers=1
    ).layers[0]
    missing = {name for name, factor in vars(found.factors).items() if factor is None}
    assert missing == {pair}
    assert found.clipping == {}


def test_gates_of_eighteen_bits_have_nothing_to_smooth() -> None:
    assert "gate" not in FsbrPlan().pairs()
    assert "gate" in FsbrPlan(swiglu_bits=8).pairs()
    assert {"down"} == set(FsbrPlan().pairs()) - set(FsbrPlan().pairs(mixed=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"without": ("donw",)}, r"unknown smoothing pair 'donw'\. Did you mean 'down'"),
        ({"objective": "msee"}, "Did you mean 'mse'"),
        ({"swiglu_bits": 5}, "--swiglu-bits is 5"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"pieces": 1}, r"--pieces is 1\. Give 2 or more"),
        ({"rate": -1.0}, "learning rate -1.0"),
    ],
)
def test_bad_plans_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        FsbrPlan(**options)


def test_bad_input_is_named(folder: Folder, text: Path, tmp_path: Path, learned: Path) -> None:
    checkpoint, path = folder("llama-tied"), tmp_path / "factors.st"
    (tmp_path / "latin.txt").write_bytes("Fähre ".encode("latin-1") * 50)
    (tmp_path / "short.txt").write_text("A few words.")
    calls: list[tuple[dict[str, Any], str]] = [
        ({"text": tmp_path / "none.txt"}, "cannot read calibration text"),
        ({"text": tmp_path / "latin.txt"}, "Give a UTF-8 text file"),
        ({"text": tmp_path / "short.txt"}, r"learning needs two pieces of 32, one to judge by"),
        ({"bits": "W3A4"}, "--bits is 'W3A4'"),
        ({"layers": 3}, r"--layers is 3\. The network has 2"),
        ({"checkpoint": tmp_path / "none"}, "no checkpoint at"),
        ({"output": tmp_path}, "is a directory"),
    ]
    for given, words in calls:
        arguments = {"checkpoint": checkpoint, "text": text, "output": path, **given}
        with pytest.raises(UserError, match=words):
            learn_factors(**arguments, plan=PLAN)
    assert not path.exists()
    before = learned.read_bytes()
    with pytest.raises(UserError, match=r"of another run: plan differ\. Choose another -o"):
        learn_factors(checkpoint, text, learned, basis="own", plan=replace(PLAN, seed=1))
    with pytest.raises(UserError, match="of another run: checkpoint, bits"):
        learn_factors(folder("qwen2"), text, learned, bits="W4A8", basis="own", plan=PLAN)
    assert learned.read_bytes() == before


def test_a_network_that_overflows_is_named(folder: Folder, text: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder("llama-tied"), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(weights, file)
    with pytest.raises(UserError, match="layer 1 of the network gives NaN"):
        learn_factors(tmp_path / "m", text, tmp_path / "f.st", plan=QUICK)
    assert list(load_learned(tmp_path / "f.st").layers) == [0]  # what was right stays


def test_factors_of_something_else_are_refused(
    folder: Folder, learned: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "text.st").write_text("no tensors")
    save_file({"0.attention": np.ones(64, np.float32)}, tmp_path / "bare.st")
    meta = {"edgeport.fsbr": json.dumps(load_learned(learned).log)}
    for name, tensor in {"0.attention": -1.0, "0.other": 1.0, "0.ffn": 1.0}.items():
        save_file({name: np.full(5, tensor, np.float32)}, tmp_path / f"{name}.st", meta)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"factors": tmp_path / "none.st"}, "no factors at"),
        ({"factors": tmp_path / "text.st"}, "no readable safetensors file"),
        ({"factors": tmp_path / "bare.st"}, "holds no learned factors"),
        ({"factors": tmp_path / "0.attention.st"}, "'0.attention' in .* is not positive"),
        ({"factors": tmp_path / "0.other.st"}, "unknown tensor '0.other'"),
        ({"factors": tmp_path / "0.ffn.st"}, "'0.ffn' in .* does not fit this network"),
        ({"basis": "rotated"}, "learned for --basis own, the export has --basis rotated. Use --b"),
        ({"bits": "W8A8"}, r"learned for W4A4, the export is W8A8\. Use --bits W4A4"),
        ({"checkpoint": folder("qwen2")}, "belong to another checkpoint"),
        ({"smoothing": "none"}, "--factors and --smoothing exclude each other"),
        ({"precision": "float"}, "--factors and --precision float exclude each other"),
    ]
    base = {"checkpoint": folder("llama-tied"), "bits": "W4A4", "factors": learned, **OWN}
    for given, words in cases:
        with pytest.raises(UserError, match=words):
            export("illm", tmp_path / "m.onnx", **{**base, **given})
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_learns_the_same(
    folder: Folder, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two percent: sums in another order, over a few steps of the optimizer."""
    found = {}
    for device in ("cuda", "cpu"):
        path = tmp_path / f"{device}.safetensors"
        found[device] = learn_factors(folder("llama-tied"), text, path, plan=QUICK, basis="own")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for index, layer in found["cpu"].layers.items():
        for name, factor in vars(layer.factors).items():
            if factor is not None:
                other = getattr(found["cuda"].layers[index].factors, name)
                np.testing.assert_allclose(other, factor, rtol=0.02)
