"""The calibration-set doctor: every finding provoked once, by its words; and what is no finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import QuantizeOptions, Statistics, observe, quantize
from calibration.observing.feeds import checked_feeds
from calibration.observing.thinned import Thinned
from calibration.samples.base import InMemorySamples
from calibration.samples.checks import checked
from calibration.samples.doctor import Diagnosis, diagnose, examine
from calibration.samples.doctor.drift import energy_test
from calibration.samples.findings import CODES, FATAL, Finding, SamplesRefusedError, named
from exporters.errors import UserError
from exporters.modelfile import InputSpec, ModelSpec, WeightsSource
from tests.calibration import nets
from tests.calibration.sample_models import camera_spec, plain_sample, plain_spec

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIZE = (48, 64)


def picture(seed: int, warm: float = 0.0) -> Any:
    """A uint8 RGB image ``[48, 64, 3]`` of overlapping coloured boxes on a slope, with grain."""
    random = np.random.default_rng(seed)
    height, width = SIZE
    image = np.linspace(60, 180, height)[:, None, None] * np.ones((height, width, 3))
    for _ in range(12):
        top, left = random.integers(0, height - 12), random.integers(0, width - 12)
        color = random.uniform(20, 220, 3)
        image[top : top + random.integers(6, 12), left : left + random.integers(6, 12)] = color
    image += random.normal(0, 3, image.shape) + np.array([warm, 0, -warm])
    return image.clip(0, 255).astype(np.uint8)


def pictures(count: int = 16, seed: int = 0, **options: Any) -> list[Any]:
    """Arrays ``[2, 48, 64, 3]``: two cameras."""
    return [
        np.stack([picture(1000 * seed + 2 * i + c, **options) for c in (0, 1)])
        for i in range(count)
    ]


def spec_of(dtype: str = "uint8", layout: str = "NHWC", **details: Any) -> ModelSpec:
    shape = (2, *SIZE, 3) if layout == "NHWC" else (2, 3, *SIZE)
    details = {"layout": layout, "cameras": ["LEFT", "RIGHT"], **details}
    return camera_spec(inputs=(InputSpec("images", dtype, shape, "camera-images", details),))


RGB = spec_of()
PLANES = spec_of("float32", "NCHW", mean=MEAN, std=STD)


def normalised(image: Any) -> Any:
    planes = (image.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(planes.transpose(0, 3, 1, 2))


def diagnosis(
    arrays: Sequence[Any],
    spec: ModelSpec = RGB,
    evaluation: Sequence[Any] | None = None,
    minimum: int = 2,
) -> Diagnosis:
    def examined(values: Sequence[Any]) -> Any:
        samples = InMemorySamples([{"images": value} for value in values])
        return examine(checked_feeds(samples, spec), spec, described=True)

    other = None if evaluation is None else examined(evaluation)
    return diagnose(examined(arrays), minimum, other)


def only(found: Diagnosis) -> Finding:
    assert len(found.findings) == 1, found.findings
    return found.findings[0]


def test_pictures_that_fit_have_no_finding() -> None:
    assert diagnosis(pictures()).findings == ()
    assert diagnosis([normalised(p) for p in pictures()], PLANES).findings == ()


# ------------------------------------------------------------------------------- every finding


def few() -> Diagnosis:
    return diagnosis(pictures(3))


def too_few() -> Diagnosis:
    return diagnosis(pictures(3), minimum=8)


def half_duplicates() -> Diagnosis:
    return diagnosis([*pictures(5), *([pictures(1, seed=3)[0]] * 15)])


def one_duplicate() -> Diagnosis:
    return diagnosis([*pictures(16), pictures(1)[0]])


def near_duplicate() -> Diagnosis:
    again = pictures(1)[0].astype(int) + np.random.default_rng(0).integers(-2, 3, (2, *SIZE, 3))
    return diagnosis([*pictures(16), again.clip(0, 255).astype(np.uint8)])


def one_covered_camera() -> Diagnosis:
    values = pictures(16)
    values[5][1] = 12 + np.random.default_rng(0).integers(0, 3, (*SIZE, 3))
    return diagnosis(values)


def zero_to_one() -> Diagnosis:
    return diagnosis([(p > 100).astype(np.uint8) for p in pictures()])


def not_normalised() -> Diagnosis:
    planes = [p.transpose(0, 3, 1, 2).astype(np.float32) for p in pictures()]
    return diagnosis(planes, PLANES)


def only_scaled() -> Diagnosis:
    planes = [(p.transpose(0, 3, 1, 2) / 255).astype(np.float32) for p in pictures()]
    return diagnosis(planes, PLANES)


def mixed() -> Diagnosis:
    scaled = [p.astype(np.float32) / np.float32(255 if i in (2, 7) else 1) for i, p in PICTURES]
    return diagnosis(scaled, spec_of("float32", range=[0, 255]))


def reshaped() -> Diagnosis:
    return diagnosis(
        [normalised(p).transpose(0, 2, 3, 1).reshape(2, 3, *SIZE) for p in pictures()], PLANES
    )


def reshaped_the_other_way() -> Diagnosis:
    return diagnosis(
        [np.ascontiguousarray(p.transpose(0, 3, 1, 2)).reshape(p.shape) for p in pictures()]
    )


def exchanged() -> Diagnosis:
    there = pictures(12, seed=1, warm=30)
    return diagnosis([p[..., ::-1].copy() for p in pictures(16, warm=30)], evaluation=there)


def grey() -> Diagnosis:
    return diagnosis([np.repeat(p[..., 1:2], 3, axis=-1) for p in pictures()])


def noise() -> Diagnosis:
    random = np.random.default_rng(0)
    return diagnosis([random.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8) for _ in range(16)])


def one_noisy_image() -> Diagnosis:
    values = pictures()
    values[9][0] = np.random.default_rng(0).integers(0, 256, (*SIZE, 3))
    return diagnosis(values)


def float_noise() -> Diagnosis:
    random = np.random.default_rng(0)
    shape = (2, 3, *SIZE)
    return diagnosis([random.uniform(-2, 2, shape).astype(np.float32) for _ in range(16)], PLANES)


def somewhat_darker() -> Diagnosis:
    darker = [(p * 0.9).astype(np.uint8) for p in pictures(16, seed=1)]
    return diagnosis(pictures(16), evaluation=darker)


def night() -> Diagnosis:
    dark = [(p * 0.2).astype(np.uint8) for p in pictures(16, seed=1)]
    return diagnosis(pictures(16), evaluation=dark)


def untested() -> Diagnosis:
    return diagnosis(pictures(16), evaluation=pictures(3, seed=1))


def shared() -> Diagnosis:
    return diagnosis(pictures(16), evaluation=[*pictures(16, seed=1), pictures(3)[2]])


PICTURES = list(enumerate(pictures()))

PROVOKED: list[tuple[Callable[[], Diagnosis], str, str, str]] = [
    (few, "few", "note", "3 samples are few, 16 to 500 are usual"),
    (too_few, "too-few", "error", "3 samples are too few, at least 8 are needed"),
    (half_duplicates, "duplicates", "error",
     "among 20 samples only 6 differ: sample-6 = sample-5, "),
    (one_duplicate, "duplicates", "note", "among 17 samples only 16 differ: sample-16 = sample-0"),
    (near_duplicate, "near-duplicates", "note",
     "1 of 17 samples hardly differ from another one: sample-16 ≈ sample-0"),
    (one_covered_camera, "almost-constant", "note",
     "images: 1 of 32 images have hardly any contrast, the faintest a standard deviation of 0.3"),
    (zero_to_one, "wrong-range", "error",
     "images goes from 0 to 1 as pictures scaled to 0..1 do, the model takes 0 to 255"),
    (not_normalised, "wrong-range", "error",
     "as pictures of 0..255 do, the model takes -2.118 to 2.64 (16 of 16 samples: sample-0, "),
    (only_scaled, "wrong-range", "error", "as pictures scaled to 0..1 do, the model takes -2.118"),
    (mixed, "mixed-range", "error",
     "images: 2 of 16 samples stay within 0..1 while the others go to 255 or thereabouts: "
     "sample-2, sample-7"),
    (reshaped, "wrong-layout", "error", "images should be NCHW, but neighbouring pixels correlate"),
    (reshaped_the_other_way, "wrong-layout", "error", "if its memory is read as NCHW (16 of 16"),
    (exchanged, "color-order", "error",
     "red and blue are exchanged in the calibration set or in the evaluation set"),
    (grey, "no-color", "note", "images: red, green and blue are equal in all 32 images"),
    (noise, "random-data", "error",
     "images: 32 of 32 images are white noise: neighbouring pixels correlate by "),
    (one_noisy_image, "random-data", "note", "images: 1 of 32 images are white noise"),
    (float_noise, "random-data", "error", "32 of 32 images are white noise"),
    (somewhat_darker, "drift", "note", "are distributed differently: energy effect size 0."),
    (night, "drift", "error", "are distributed differently: energy effect size 0."),
    (untested, "drift-untested", "note",
     "16 calibration and 3 evaluation samples cannot be compared, 5 of each are needed"),
    (shared, "overlap", "error",
     "1 of 17 evaluation samples are in the calibration set too: sample-16"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("provoke", "code", "severity", "words"), PROVOKED, ids=[p[0].__name__ for p in PROVOKED]
)
def test_a_finding(provoke: Callable[[], Diagnosis], code: str, severity: str, words: str) -> None:
    found = provoke()
    first = found.findings[0]
    assert (first.code, first.severity) == (code, severity), found.findings
    assert words in first.message
    assert first.fix
    errors = [f for f in found.findings if f.severity == "error"]
    assert all(f.code == code for f in errors)
    if errors:
        with pytest.raises(SamplesRefusedError) as caught:
            found.requiring(())
        assert f"--i-know {code}" in str(caught.value)
        assert found.requiring([code]).overridden == (code,)
        assert found.requiring(["all"]).overridden == (code,)
    else:
        assert found.requiring(()).overridden == ()


def test_every_finding_is_provoked() -> None:
    elsewhere = {"unstable-ranges", "no-past"}  # test_observers, test_rolling
    assert {code for _, code, _, _ in PROVOKED} | elsewhere == set(CODES)


@pytest.mark.parametrize(
    ("sample", "code", "words"),
    [
        ({"images": np.zeros((2, *SIZE, 3), np.uint8)}, "constant", "camera LEFT has one colour"),
        ({"images": np.zeros((2, *SIZE, 3), np.float32)}, "form", "is float32"),
        ({"images": np.zeros((2, 3, *SIZE), np.uint8)}, "form",
         "Transposed by (0, 2, 3, 1) it would fit"),
        ({"images": pictures(1)[0], "label.x": np.float32([np.nan])}, "not-finite", "1 NaN"),
    ],
)  # fmt: skip
def test_samples_that_nothing_overrides(sample: Any, code: str, words: str) -> None:
    with pytest.raises(SamplesRefusedError) as caught:
        checked(sample, "s", RGB)
    assert caught.value.findings[0].code == code
    assert code in FATAL
    assert words in str(caught.value)
    with pytest.raises(UserError, match=f"--i-know {code}: .* cannot be calibrated on"):
        QuantizeOptions(i_know=(code,))


# ------------------------------------------------------------------------- what is no finding


def test_a_picture_with_one_bright_pixel_is_a_picture() -> None:
    dark = np.zeros((2, *SIZE, 3), np.uint8)
    dark[:, 3, 5] = 255
    checked({"images": dark}, "s", RGB)


def test_two_halves_of_one_set_do_not_drift() -> None:
    for seed in range(5):
        codes = {f.code for f in diagnosis(
            pictures(12, seed=2 * seed + 10), evaluation=pictures(12, seed=2 * seed + 11)
        ).findings}  # fmt: skip
        assert codes == {"few"}


def test_the_energy_test_is_calibrated_and_its_effect_is_known() -> None:
    random = np.random.default_rng(0)
    p = [energy_test(random.normal(size=(8, 3)), random.normal(size=(8, 3)))[1] for _ in range(100)]
    assert np.mean(np.array(p) <= 0.1) < 0.2  # 0.1 expected, standard error 0.03
    assert abs(np.mean(p) - 0.5) < 0.1  # uniform: standard error 0.03
    near, far = random.normal(size=(400, 1)), random.normal(size=(400, 1))
    # of N(0, 1) and N(d, 1): E|X - Y| = 2/sqrt(pi) exp(-d²/4) + d erf(d/2), E|X - X'| = 2/sqrt(pi)
    for d, effect in ((1.0, 0.194), (3.0, 0.626)):
        assert energy_test(near, far + d)[0] == pytest.approx(effect, abs=0.06)


def test_noise_in_a_tensor_that_is_no_image_is_fine() -> None:
    random = np.random.default_rng(0)
    item = replace(RGB.inputs[0], semantics="tensor")
    spec = replace(RGB, inputs=(item,))
    noise = [random.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8) for _ in range(16)]
    assert diagnosis(noise, spec).findings == ()


@pytest.mark.parametrize(
    ("given", "full", "words"),
    [
        (255.0, 1.0, "intensities reach .* the model takes 0 to 1"),
        (1.0, 255.0, "intensities end at .* the model takes 0 to 255"),
        (1.0, 1.0, ""),
    ],
)
def test_the_scale_of_intensities(given: float, full: float, words: str) -> None:
    columns = ["x", "y", "z", "intensity"]
    details = {"columns": columns, "intensity_max": full, "fill": -10_000.0}
    item = InputSpec("points", "float32", (300, 4), "points", details)
    spec = ModelSpec("v", "f", "detection", (item,), (), WeightsSource("random", seed=0))
    feeds = []
    for index in range(16):
        points = np.random.default_rng(index).random((300, 4)).astype(np.float32)
        points[:, 3] *= given
        points[200:] = -10_000
        feeds.append((f"s{index}", {"points": points}))
    found = diagnose(examine(feeds, spec, described=True), minimum=2)
    problems = [finding for finding in found.findings if finding.code == "wrong-range"]
    assert len(problems) == bool(words)
    for problem in problems:
        assert re.search(words, problem.message)
        with pytest.raises(SamplesRefusedError, match="--i-know wrong-range"):
            found.requiring(())


def test_other_inputs_count_for_duplicates_and_drift() -> None:
    samples = InMemorySamples([plain_sample(i % 16) for i in range(17)])
    found = diagnose(examine(checked_feeds(samples, plain_spec()), plain_spec(), described=True), 2)
    assert only(found).code == "duplicates"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.samples.doctor.examination.LIMIT", 4)
    samples = InMemorySamples([{"images": value} for value in pictures(17)])
    examination = examine(checked_feeds(samples, RGB), RGB, described=True)
    assert examination.images["images"].names == ("sample-0", "sample-8", "sample-16")
    assert len(examination.digests) == 17


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 100])
def test_thinned_is_an_even_choice(count: int) -> None:
    thinned = Thinned[int](4)
    for item in range(count):
        thinned.add(item)
    step = next(s for s in (1, 2, 4, 8, 16, 32) if len(range(0, count, s)) <= 4)
    assert thinned.items == list(range(0, count, step))


def test_names_are_shortened() -> None:
    assert named(["a"]) == "a"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"


# --------------------------------------------------------------------------- through quantize


@pytest.fixture
def foreign(tmp_path: Path) -> Any:
    """A file without self-description whose input ``[1, 3, 32, 32]`` looks like an image."""
    return nets.saved_bare(nets.residual(), tmp_path / "foreign.onnx")


def test_noise_for_a_foreign_image_model_is_refused_unless_known(
    foreign: Any, tmp_path: Path
) -> None:
    samples = nets.samples(foreign.proto)
    with pytest.raises(
        SamplesRefusedError, match=r"4 of 4 images are white noise.*--i-know random"
    ):
        quantize(foreign, samples, tmp_path / "q.onnx")
    assert not (tmp_path / "q.onnx").exists()
    with pytest.raises(SamplesRefusedError, match="white noise"):
        observe(foreign, samples)
    options = QuantizeOptions(i_know=("random-data",))
    report = quantize(foreign, samples, tmp_path / "q.onnx", options).report
    assert report["calibration_set"]["overridden"] == ["random-data"]
    first = report["calibration_set"]["findings"][0]
    assert (first["code"], first["samples_concerned"]) == ("random-data", 4)


def test_the_model_file_says_what_was_overridden(tmp_path: Path) -> None:
    file = nets.saved(nets.residual(), tmp_path / "net.onnx")
    same = InMemorySamples([next(iter(nets.samples(file.proto)))] * 4)
    options = QuantizeOptions(scales="mse", i_know=("all",))
    model = quantize(file, same, tmp_path / "q.onnx", options).model
    described = model.require_spec().quantization
    assert described is not None
    assert described["calibration_set"]["overridden"] == ["duplicates"]
    # a pass that was made in spite of an error carries it to every file that is made from it
    observe(file, same, i_know=["duplicates"]).save(tmp_path / "s.npz")
    seen = Statistics.load(tmp_path / "s.npz")
    plain = QuantizeOptions(scales="mse")
    again = quantize(file, seen, tmp_path / "again.onnx", plain).model
    assert again.require_spec().quantization == described


def test_i_know_knows_its_findings() -> None:
    with pytest.raises(UserError, match=r"'radom-data' is no finding\. Did you mean 'random-data'"):
        QuantizeOptions(i_know=("radom-data",))


def test_an_evaluation_set_is_compared(tmp_path: Path) -> None:
    file = nets.saved(nets.chain(), tmp_path / "net.onnx")
    louder = InMemorySamples([{"x": s["x"] * 9} for s in nets.samples(file.proto, 8, seed=5)])
    samples = nets.samples(file.proto, 16)
    report = quantize(file, samples, tmp_path / "p.onnx", evaluation=louder).report
    found = {f["code"]: f["message"] for f in report["calibration_set"]["findings"]}
    assert "most in x std (d = -" in found["drift"]
    alike = nets.samples(file.proto, 8, seed=5)
    report = quantize(file, samples, tmp_path / "q.onnx", evaluation=alike).report
    assert "drift" not in {f["code"] for f in report["calibration_set"]["findings"]}
    with pytest.raises(UserError, match="statistics cannot be compared with an evaluation set"):
        quantize(file, observe(file, samples), tmp_path / "r.onnx", evaluation=alike)
