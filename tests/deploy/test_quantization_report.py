"""``edgeport quantize --report``: a page and a JSON of what was really done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calibration import QuantizeOptions, quantize
from calibration.samples import write_samples
from deploy.cli import run
from deploy.report.quantization import parse_quantization, write_quantization_report
from exporters.errors import UserError
from tests.calibration import nets
from tests.calibration.reporting.test_layers import spiked
from tests.deploy.report.test_page import Page, hostile


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a small network that is split, corrected and measured."""
    folder = tmp_path_factory.mktemp("made")
    proto = spiked()
    file = nets.saved(proto, folder / "m.onnx", keep_float={"fc": "class logits"})
    options = QuantizeOptions(policy="tensorrt", scales="auto", split="auto", correct_bias=True)
    result = quantize(file, nets.samples(proto), folder / "q.onnx", options, measure_layers=True)
    return {"path": "models/q.onnx", "sha256": result.model.sha256, **result.report}


@pytest.fixture(scope="module")
def page(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "q.html"
    return Page(write_quantization_report(report, path).read_text())


def test_the_page_holds_every_layer_every_range_and_every_reason(
    page: Page, report: dict[str, Any]
) -> None:
    assert "q.onnx" in page.text
    assert "Split in a coarse and a fine convolution" in page.text
    for key, name in (
        ("layers", "node"),
        ("activation_ranges", "tensor"),
        ("weight_ranges", "node"),
        ("split_nodes", "node"),
        ("skipped", "reason"),
        ("whole_nodes", "reason"),
    ):
        assert report[key], key
        for item in report[key]:
            assert item[name] in page.text, (key, item)
    assert "class logits" in page.text
    median_sentence = "layers. Each has the errors of all before it"
    assert median_sentence in page.text
    assert report["source_sha256"] in page.text
    assert "4 samples are few" in page.text, "what the doctor says of the set"


def test_every_distribution_is_drawn_and_can_be_read_aloud(
    page: Page, report: dict[str, Any]
) -> None:
    drawn = [a for tag, a in page.elements if tag == "svg" and a.get("class") == "thumbnail"]
    wanted = [r for key in ("activation_ranges", "weight_ranges") for r in report[key] if r["bars"]]
    assert len(drawn) == len(wanted) > 10
    assert all(a["aria-label"].startswith("distribution between") for a in drawn)
    charts = [a for tag, a in page.elements if tag == "svg" and "chart wide" in a.get("class", "")]
    assert len(charts) == 2
    assert "9 layers in graph order" in charts[0]["aria-label"]


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    links = page.attributes("href", "src", "srcset", "action", "data", "poster")
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(page.attributes("id"))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("text", ["<script>x=1</script>", '"><img src=x onerror=x>', "{{ 7*191 }}"])
def test_names_cannot_become_markup(report: dict[str, Any], tmp_path: Path, text: str) -> None:
    evil = hostile(report, text) | {"schema": report["schema"], text: {text: [text]}}
    for key in ("seconds", "scale_methods", "quantized"):
        evil[key] = {**evil[key], text: 1}
    before = Page(write_quantization_report(report, tmp_path / "a.html").read_text())
    after = Page(write_quantization_report(evil, tmp_path / "b.html").read_text())
    for tag in ("script", "img", "svg"):
        assert sum(t == tag for t, _ in after.elements) == sum(t == tag for t, _ in before.elements)
    assert "1337" not in after.text


def test_a_key_of_tomorrow_is_shown_as_it_is(report: dict[str, Any], tmp_path: Path) -> None:
    more = report | {"rotated_nodes": ["b1.c1"]}
    text = Page(write_quantization_report(more, tmp_path / "q.html").read_text()).text
    assert "rotated nodes" in text.split("Everything else that the file says")[1]


def test_what_a_model_file_says_of_itself_can_be_drawn(tmp_path: Path) -> None:
    """The file holds all but times and sizes, which depend on the machine."""
    proto = nets.residual()
    file = nets.saved(proto, tmp_path / "m.onnx")
    made = quantize(file, nets.samples(proto), tmp_path / "q.onnx", QuantizeOptions())
    said = made.model.require_spec().quantization
    assert said is not None
    assert not {"seconds", "peak_rss_mib", "size_bytes"} & set(said)
    entry = parse_quantization(said)
    assert len(entry.activation_ranges) == said["activations"]["tensors"]
    assert entry.layers is None
    text = Page(write_quantization_report(said, tmp_path / "q.html").read_text()).text
    assert "Error of every layer" not in text


def test_another_schema_is_refused(report: dict[str, Any], tmp_path: Path) -> None:
    for wrong in ({}, report | {"schema": "edgeport.quantization/1"}):
        with pytest.raises(UserError, match=r"this edgeport reads 'edgeport.quantization/2'"):
            write_quantization_report(wrong, tmp_path / "q.html")
    broken = report | {"weight_ranges": [{"node": "a"}]}
    with pytest.raises(UserError, match=r"weight_ranges\[0\].minimum is missing"):
        write_quantization_report(broken, tmp_path / "q.html")
    assert not (tmp_path / "q.html").exists()


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    proto = spiked()
    nets.saved(proto, tmp_path / "m.onnx")
    write_samples(nets.samples(proto), tmp_path / "set")
    return tmp_path


def command(place: Path, *options: str) -> int:
    line = ["quantize", str(place / "m.onnx"), "--samples", str(place / "set")]
    return run([*line, "-o", str(place / "q.onnx"), *options])


def test_the_command_writes_json_and_says_the_worst_layers(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(place, "--split", "auto", "--report", str(place / "q.json")) == 0
    text = capsys.readouterr().out
    assert "Worst of 9 layers, with all errors before them" in text
    assert f"report: {place / 'q.json'}" in text
    written = json.loads((place / "q.json").read_text())
    assert written["schema"] == "edgeport.quantization/2"
    assert written["size_bytes"] == (place / "q.onnx").stat().st_size
    assert written["seconds"]["measure layers"] > 0


def test_the_report_is_what_json_prints(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(place, "--json", "--report", str(place / "q.json")) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((place / "q.json").read_text())


@pytest.mark.parametrize(
    ("name", "words"),
    [("q.pdf", "a report is .html or .json, not 'q.pdf'"), ("mine.html", "exists already")],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_work(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (place / "mine.html").write_text("mine")
    assert command(place, "--report", str(place / name)) == 2
    assert words in capsys.readouterr().err
    assert not (place / "q.onnx").exists()
    assert (place / "mine.html").read_text() == "mine"


def test_the_help_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["quantize", "--help"]) == 0
    text = capsys.readouterr().out
    panels = ["How ranges and weights are chosen", "What stays in float", "Samples", "Result"]
    headings = [text.index(f"\n{panel}:\n") for panel in panels]
    assert headings == sorted(headings)
