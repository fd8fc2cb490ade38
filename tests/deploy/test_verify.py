"""A comparison says what numpy says of the same outputs, and what it could not see never passes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from calibration import QuantizeOptions, quantize
from calibration.samples import InMemorySamples, open_samples
from deploy import Contract, verify
from deploy.boundaries import compare_layers, find_boundaries
from deploy.cli import run
from exporters.errors import UserError

from .conftest import Mini, blocky_images

FLOAT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,9,9] x) => (float[1,4,9,9] y) <float[4,4,3,3] w> {
    [conv] a = Conv<pads=[1,1,1,1]>(x, w)
    [relu] r = Relu(a)
    [conv2] y = Conv<pads=[1,1,1,1]>(r, w)
}"""

# uint8 activations and int8 weights, every scale a power of two so that numpy agrees to the bit
QDQ = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,9,9] x) => (float[1,4,9,9] y)
  <float s = {0.0625}, uint8 z = {128}, float s0 = {0.125}, uint8 z0 = {0},
   float sw = {0.0078125}, int8 zw = {0}, int8[4,4,3,3] wq> {
    [qx] xq = QuantizeLinear(x, s, z)
    [dx] xd = DequantizeLinear(xq, s, z)
    [dw] wd = DequantizeLinear(wq, sw, zw)
    [conv] a = Conv<pads=[1,1,1,1]>(xd, wd)
    [relu] r = Relu(a)
    [qr] rq = QuantizeLinear(r, s0, z0)
    [dr] rd = DequantizeLinear(rq, s0, z0)
    [conv2] y = Conv<pads=[1,1,1,1]>(rd, wd)
}"""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A float model and the same one with Q/DQ."""
    weights = np.random.default_rng(0).integers(-30, 31, (4, 4, 3, 3))
    paths = []
    for name, text, tensor in (
        ("float", FLOAT, numpy_helper.from_array((weights / 128).astype(np.float32), "w")),
        ("qdq", QDQ, numpy_helper.from_array(weights.astype(np.int8), "wq")),
    ):
        model = parser.parse_model(text)
        kept = [t for t in model.graph.initializer if t.name != tensor.name]
        del model.graph.initializer[:]
        model.graph.initializer.extend([*kept, tensor])
        paths.append(tmp_path / f"{name}.onnx")
        onnx.save(model, paths[-1])
    return paths[0], paths[1]


def noise(count: int = 3) -> InMemorySamples:
    rng = np.random.default_rng(7)
    return InMemorySamples(
        [{"x": rng.normal(size=(1, 4, 9, 9)).astype(np.float32)} for _ in range(count)]
    )


def outputs(path: Path, samples: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [session.run(None, dict(sample))[0] for sample in samples]


def decibels(reference: np.ndarray, candidate: np.ndarray) -> float:
    error = reference.astype(np.float64) - candidate
    return float(10 * np.log10((reference.astype(np.float64) ** 2).sum() / (error**2).sum()))


def test_float_outputs_are_compared_over_all_samples(pair: tuple[Path, Path]) -> None:
    comparison = verify(*pair, noise())
    expected, found = (np.stack(outputs(path, noise())) for path in pair)
    assert comparison.summary["sqnr_db"] == pytest.approx(decibels(expected, found))
    assert comparison.summary["max_abs"] == pytest.approx(np.abs(expected - found).max())
    flat = [expected.ravel().astype(np.float64), found.ravel().astype(np.float64)]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert comparison.summary["cosine"] == pytest.approx(cosine)
    assert [sample.name for sample in comparison.samples] == ["sample-0", "sample-1", "sample-2"]
    assert comparison.samples[1].outputs["y"]["sqnr_db"] == pytest.approx(
        decibels(expected[1], found[1])
    )


def test_layers_are_compared_where_the_candidate_quantizes(pair: tuple[Path, Path]) -> None:
    layers = compare_layers(*pair, noise())
    assert [(layer.tensor, layer.node, layer.op_type) for layer in layers.layers] == [
        ("x", "x", "input"),
        ("r", "relu", "Relu"),
    ]
    x = np.stack([sample["x"] for sample in noise()])
    rounded = (np.clip(np.rint(x / 0.0625) + 128, 0, 255) - 128) * 0.0625
    assert layers.layers[0].error.sqnr_db == pytest.approx(decibels(x, rounded))
    # the second one adds the error of the first, of its own rounding and of clipping
    assert layers.layers[1].error.sqnr_db < layers.layers[0].error.sqnr_db
    assert layers.worst_first[0].tensor == "r"


def test_looking_inside_does_not_break_the_integer_kernels(pair: tuple[Path, Path]) -> None:
    layers = compare_layers(*pair, noise())
    assert layers.integer_kernels == {"QLinearConv": 1}  # the last conv gives floats
    assert layers.observed_kernels == layers.integer_kernels
    assert layers.kernels_lost == 0


def test_a_small_flashocc_keeps_all_its_integer_kernels(mini: Mini) -> None:
    comparison = verify(mini.fp32, mini.int8, mini.evaluation, layers=True)
    assert comparison.layers is not None
    assert comparison.layers.integer_kernels["QLinearConv"] >= 40
    assert comparison.layers.observed_kernels == comparison.layers.integer_kernels
    assert len(comparison.layers.layers) == len(find_boundaries(onnx.load(mini.int8)))
    assert comparison.layers.absent == ()
    names = [node.output[0] for node in onnx.load(mini.fp32).graph.node]
    order = [
        names.index(layer.tensor) for layer in comparison.layers.layers if layer.tensor in names
    ]
    assert order == sorted(order), "graph order"


def test_many_chunks_give_what_one_gives(mini: Mini, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = open_samples(mini.evaluation, mini.spec)
    once = compare_layers(mini.fp32, mini.int8, samples)
    monkeypatch.setattr("deploy.boundaries._CHUNK_BYTES", 1 << 20)
    chunked = compare_layers(mini.fp32, mini.int8, samples)
    assert [layer.tensor for layer in chunked.layers] == [layer.tensor for layer in once.layers]
    for left, right in zip(chunked.layers, once.layers, strict=True):
        # other outputs allow other fusions of the float model, hence other roundings
        assert left.error.sqnr_db == pytest.approx(right.error.sqnr_db, abs=1e-3)


def test_label_agreement_is_the_share_of_equal_voxels(mini: Mini) -> None:
    comparison = verify(mini.fp32, mini.int8, mini.evaluation)
    samples = [{"images": s["images"]} for s in open_samples(mini.evaluation, mini.spec)]
    expected, found = (np.stack(outputs(path, samples)) for path in (mini.fp32, mini.int8))
    assert comparison.summary["agreement"] == pytest.approx((expected == found).mean())
    somewhere = (expected != 17) | (found != 17)
    assert comparison.summary["agreement_occupied"] == pytest.approx(
        (expected == found)[somewhere].mean()
    )
    heights = [row["agreement"] for row in comparison.parts["labels"]["z"]]
    assert heights == pytest.approx((expected == found).mean(axis=(0, 1, 2)))
    for label, row in enumerate(comparison.parts["labels"]["class"]):
        assert row["reference_count"] == (expected == label).sum()
        assert row["candidate_count"] == (found == label).sum()
        union = ((expected == label) | (found == label)).sum()
        both = ((expected == label) & (found == label)).sum()
        assert row["iou"] == pytest.approx(both / union if union else math.nan, nan_ok=True)


def labelled(mini: Mini) -> InMemorySamples:
    """Ground truth that equals what FP32 says, but for a few voxels; half of it is unseen."""
    rng = np.random.default_rng(3)
    samples = []
    for sample in blocky_images(2, 5, mini.spec):
        truth = outputs(mini.fp32, [sample])[0].copy()
        wrong = rng.random(truth.shape) < 0.1
        truth[wrong] = rng.integers(0, 18, wrong.sum())
        mask = rng.integers(0, 2, truth.shape).astype(np.uint8)
        samples.append({**sample, "label.semantics": truth, "label.mask_camera": mask})
    return InMemorySamples(samples)


def test_miou_of_both_where_there_is_ground_truth(mini: Mini) -> None:
    samples = labelled(mini)
    comparison = verify(
        mini.fp32, mini.int8, samples, contract=Contract(require=["metric>=fp32-0"])
    )
    truth = np.stack([sample["label.semantics"] for sample in samples])
    seen = np.stack([sample["label.mask_camera"] for sample in samples]) == 1
    values = []
    for path in (mini.fp32, mini.int8):
        guess = np.stack(outputs(path, [{"images": s["images"]} for s in samples]))
        ious = []
        for label in range(17):
            both = ((truth == label) & (guess == label) & seen).sum()
            either = (((truth == label) | (guess == label)) & seen).sum()
            if either:
                ious.append(both / either)
        values.append(100 * np.mean(ious))
    assert comparison.metric is not None
    assert comparison.metric.reference == pytest.approx(values[0])
    assert comparison.metric.candidate == pytest.approx(values[1])
    assert comparison.summary["miou_loss"] == pytest.approx(values[0] - values[1])
    assert values[0] > values[1]
    single = next(v.values for v in comparison.paired if v.name == "miou")
    assert len(single) == 2  # what each sample alone would say
    # two samples have Student's interval with one degree of freedom: 12.7 standard errors
    assert comparison.verdict.status == "no evidence"
    assert comparison.verdict.exit_code == 1
    assert "which cannot decide 0 %; about" in str(comparison.verdict.checks[-1])


@pytest.mark.parametrize(
    ("require", "status", "line"),
    [
        ([], "pass", "values that are not finite 0 <= 0: ok"),
        (["agreement>=0.1"], "pass", "] >= 0.1: ok"),
        (["agreement>=0.9999"], "fail", ">= 0.9999: missed"),
        (
            ["sqnr_db>=10"],
            "no evidence",
            "SQNR: no evidence (no float output to take it from; export with --logits)",
        ),
        (
            ["metric>=fp32-1"],
            "no evidence",
            "metric loss: no evidence (no sample has ground truth)",
        ),
    ],
)
def test_terms_make_the_verdict(mini: Mini, require: list[str], status: str, line: str) -> None:
    comparison = verify(mini.fp32, mini.int8, mini.evaluation, contract=Contract(require=require))
    assert comparison.verdict.status == status
    assert (comparison.verdict.exit_code == 0) == (status == "pass")
    assert any(line in str(check) for check in comparison.verdict.checks)


def test_a_threshold_that_these_samples_cannot_decide_is_no_evidence(
    pair: tuple[Path, Path],
) -> None:
    found = verify(*pair, noise(8))
    interval = next(m.interval for m in found.paired if m.name == "sqnr_db")
    assert interval is not None
    assert interval.low < found.summary["sqnr_db"] < interval.high
    for limit, status in (
        (interval.low - 0.01, "pass"),
        (interval.high + 0.01, "fail"),
        ((interval.low + interval.value) / 2, "no evidence"),
    ):
        verdict = verify(*pair, noise(8), contract=Contract(require=[f"sqnr_db>={limit}"])).verdict
        assert verdict.status == status
        assert verdict.exit_code == (0 if status == "pass" else 1)
    words = str(verdict.checks[-1])
    assert "SQNR: no evidence (8 samples say" in words
    assert "samples would)" in words


def test_one_sample_decides_nothing(pair: tuple[Path, Path]) -> None:
    verdict = verify(*pair, noise(1), contract=Contract(require=["sqnr_db>=1"])).verdict
    assert verdict.status == "no evidence"
    assert "was measured, but 1 pairs say nothing about spread" in str(verdict.checks[-1])


def test_sqnr_of_single_samples_and_of_all_are_those_of_numpy(pair: tuple[Path, Path]) -> None:
    comparison = verify(*pair, noise(5))
    metric = next(m for m in comparison.paired if m.name == "sqnr_db")
    expected, found = (outputs(path, noise(5)) for path in pair)
    assert metric.values == pytest.approx(list(map(decibels, expected, found)))
    assert metric.reference is None
    without = [
        decibels(np.stack(expected[:i] + expected[i + 1 :]), np.stack(found[:i] + found[i + 1 :]))
        for i in range(5)
    ]
    # the jackknife's standard error, by its definition
    error = math.sqrt(4 / 5 * sum((w - np.mean(without)) ** 2 for w in without))
    assert metric.interval is not None
    assert metric.interval.high - metric.interval.value == pytest.approx(2.776445 * error, rel=1e-4)


def test_an_own_metric_judges_foreign_models_on_the_pair(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_pair_metric.py").write_text(
        "import numpy as np\n"
        "def peaks(reference_outputs, candidate_outputs, sample):\n"
        "    both = (reference_outputs, candidate_outputs)\n"
        "    ours, theirs = (outputs['y'].argmax(axis=1) for outputs in both)\n"
        "    equal = ours == theirs\n"
        "    return {'equal': equal.mean(), 'first': float(equal[0, 0, 0])}\n"
    )
    monkeypatch.chdir(tmp_path)
    limits = Contract(require=["metric>=fp32-0.9"])
    comparison = verify(*pair, noise(12), metric="own_pair_metric:peaks", contract=limits)
    expected, found = (outputs(path, noise(12)) for path in pair)
    equal = [
        (e.argmax(axis=1) == f.argmax(axis=1)).mean() for e, f in zip(expected, found, strict=True)
    ]
    first, second = comparison.task_metrics
    assert (first.name, first.reference, first.samples) == ("equal", 1.0, 12)
    assert first.candidate == pytest.approx(np.mean(equal))
    assert first.values == pytest.approx([e - 1 for e in equal])
    assert comparison.summary["first_loss"] == pytest.approx(second.loss)
    names = [check.name for check in comparison.verdict.checks]
    assert names[1:] == ["equal loss", "first loss"]
    assert comparison.verdict.status == "pass"


def test_a_model_equals_itself(mini: Mini, pair: tuple[Path, Path]) -> None:
    assert verify(mini.fp32, mini.fp32, mini.evaluation).summary["agreement"] == 1
    same = verify(pair[0], pair[0], noise(), contract=Contract(require=["sqnr_db>=100"]))
    assert same.summary["sqnr_db"] == math.inf
    assert same.verdict.status == "pass"
    assert "an exact copy" in str(same.verdict.checks[-1])
    assert same.to_json()["summary"]["sqnr_db"] is None


def test_a_candidate_that_gives_nan_fails(pair: tuple[Path, Path], tmp_path: Path) -> None:
    model = onnx.load(pair[0])
    broken = np.full((4, 4, 3, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w"))
    onnx.save(model, tmp_path / "broken.onnx")
    comparison = verify(pair[0], tmp_path / "broken.onnx", noise(1))
    assert comparison.verdict.status == "fail"
    assert comparison.summary["mismatched"] == 4 * 9 * 9


def test_an_own_metric_is_taken_from_the_folder_where_the_command_is_typed(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_metric_of_mine.py").write_text(
        "def free_share(outputs, labels):\n    return (outputs['labels'] == 17).mean()\n"
        "class Count:\n"
        "    unit = 'samples'\n"
        "    n = 0\n"
        "    def update(self, outputs, labels):\n        self.n += 1\n"
        "    def value(self):\n        return float(self.n)\n"
    )
    monkeypatch.chdir(tmp_path)
    function = verify(mini.fp32, mini.int8, mini.evaluation, metric="own_metric_of_mine:free_share")
    assert function.metric is not None
    samples = [{"images": s["images"]} for s in open_samples(mini.evaluation, mini.spec)]
    share = np.mean([(o == 17).mean() for o in outputs(mini.fp32, samples)])
    assert function.metric.reference == pytest.approx(share)
    counted = verify(mini.fp32, mini.int8, mini.evaluation, metric="own_metric_of_mine:Count")
    assert counted.metric is not None
    assert (counted.metric.reference, counted.metric.loss) == (2, 0)


def test_a_file_for_tensorrt_says_that_it_is_only_emulated(mini: Mini) -> None:
    comparison = verify(mini.fp32, mini.int8_tensorrt, mini.evaluation, layers=True)
    assert any("made for TensorRT" in note for note in comparison.notes)
    assert comparison.verdict.status == "pass"
    assert comparison.layers is not None
    assert len(comparison.layers.layers) > 30
    assert comparison.layers.integer_kernels == {}


def test_a_file_for_tensorrt_with_an_fp16_remainder_is_compared_inside(
    mini: Mini, tmp_path: Path
) -> None:
    """ONNX Runtime would fuse integer kernels with FP16 scales, which it then refuses to load."""
    output = tmp_path / "int8-fp16.onnx"
    samples = open_samples(mini.calibration, mini.spec)
    quantize(mini.fp32, samples, output, QuantizeOptions(policy="tensorrt", rest="fp16"))
    layers = verify(mini.fp32, output, mini.evaluation, layers=True).layers
    assert layers is not None
    assert min(layer.error.sqnr_db for layer in layers.layers) > 5


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("miuo", "unknown metric 'miuo'. Did you mean 'miou'?"),
        ("no_such_module:f", "cannot import 'no_such_module'"),
        ("math:floorr", "'math' has no function or class 'floorr'. Did you mean 'floor'?"),
        ("miou", "the sample has no ground truth 'semantics' (it has none)"),
    ],
)
def test_a_metric_that_cannot_be_had_is_an_error(mini: Mini, metric: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        verify(mini.fp32, mini.int8, mini.evaluation, metric=metric)
    assert words in str(raised.value)


def test_files_and_samples_that_do_not_belong_together_are_named(
    mini: Mini, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(UserError, match=r"reference has outputs \['labels'\], the candidate \['y'"):
        verify(mini.fp32, pair[0], mini.evaluation)
    with pytest.raises(UserError, match="sample 'sample-0': the model has no input 'x'"):
        verify(mini.fp32, mini.int8, noise())
    with pytest.raises(UserError, match="there are no samples to verify on"):
        verify(mini.fp32, mini.int8, InMemorySamples([]))
    bad = {"x": np.full((1, 4, 9, 9), np.nan, np.float32)}
    with pytest.raises(UserError, match="sample 'rainy': input 'x' holds NaN or infinity"):
        verify(*pair, InMemorySamples([bad], names=["rainy"]))
    with pytest.raises(UserError, match="declares no occupancy output, which mIoU needs"):
        verify(*pair, noise(), metric="miou")


def test_layers_need_a_quantized_candidate_and_its_own_float_model(
    mini: Mini, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(UserError, match=r"quantizes no activation, so there are no boundaries"):
        compare_layers(pair[0], pair[0], noise())
    with pytest.raises(UserError, match=r"has none of the tensors that .* quantizes"):
        compare_layers(mini.fp32, pair[1], noise())


def test_the_command_prints_json_and_ends_in_its_verdict(
    mini: Mini, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["verify", str(mini.fp32), str(mini.int8), "--samples", str(mini.evaluation)]
    assert run([*line, "--layers", "--require", "agreement>=0.1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "edgeport.comparison/3"
    assert result["verdict"]["status"] == "pass"
    assert result["weights"] == "random weights, seed 0"
    assert result["kernels"]["integer"] == result["kernels"]["observed"]
    assert run([*line, "--require", "agreement>=0.9999"]) == 1
    text = capsys.readouterr().out
    assert "verdict: fail" in text
    assert "random weights, seed 0" in text
