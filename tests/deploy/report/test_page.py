"""The page as text: complete, self-contained, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from deploy.report import render, rendering, write_report
from exporters.errors import UserError
from tests.deploy.report.fixture import full_report, minimal_report, street

SECTIONS = {
    "latency": "Speed (nothing was timed)",
    "agreement": "Agreement (nothing was compared)",
    "occupancy": "Scene (no sample was drawn)",
    "quantization": "Quantization (nothing was quantized)",
    "samples": "Samples (no sample set was recorded)",
    "model": "Model files (no model file is listed)",
    "engines": "Engines (no engine was built)",
    "stages": "Pipeline (no stage was recorded)",
    "environment": "Environment (the machine was not recorded)",
}
VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Elements, their attributes and text; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.raw:
            self.raw[self._open[-1]].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def attributes(self, *names: str) -> list[str]:
        return [value for _, found in self.elements for key, value in found.items() if key in names]


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return full_report()


@pytest.fixture(scope="module")
def html(full: dict[str, Any]) -> str:
    return render(full)


def test_every_section_of_a_full_report_is_on_the_page(html: str) -> None:
    page = Page(html)
    assert set(SECTIONS) <= set(page.attributes("id"))
    assert "No evidence in this run" not in page.text
    for words in (
        "flashocc-m0 from FP32 to INT8",
        "Random weights, seed 0: labels are not meaningful, agreement is.",
        "not stated: needs 459 runs, had 200",
        "depth softmax: a distribution over 44 bins needs more than 8 bits",
        "ArgMax runs in INT32, the labels are cast after it",
        "/img_backbone/layer3/layer3.4/conv2/Conv",
        "Made-up CPU 8000",
    ):
        assert words in page.text
    assert sum(tag == "img" for tag, _ in page.elements) == 6


@pytest.mark.parametrize("key", SECTIONS)
def test_a_missing_section_leaves_the_page_and_is_named(full: dict[str, Any], key: str) -> None:
    for report in (full | {key: None}, {k: v for k, v in full.items() if k != key}):
        page = Page(render(report))
        assert key not in page.attributes("id")
        assert f"#{key}" not in page.attributes("href")
        assert SECTIONS[key] in page.text


def test_a_report_of_nothing_claims_nothing() -> None:
    page = Page(render(minimal_report()))
    assert all(words in page.text for words in SECTIONS.values())
    assert "Verdict: no evidence" in page.text
    assert "no evidence is not a pass" in page.text
    assert not [tag for tag, _ in page.elements if tag in ("svg", "table", "canvas")]


@pytest.mark.parametrize(
    ("status", "ok", "word"),
    [("pass", True, "holds"), ("fail", False, "missed"), ("no evidence", None, "no evidence")],
)
def test_the_verdict_is_said_in_words(status: str, ok: bool | None, word: str) -> None:
    check = {"name": "int8: agreement", "value": None, "threshold": 0.97, "ok": ok, "note": "why"}
    verdict = {"status": status, "checks": [check]}
    text = Page(render(minimal_report() | {"verdict": verdict})).text
    assert f"Verdict: {status}" in text
    assert re.search(rf"INT8: agreementwhy –\s*≥ 0.97\s*.?{word}", text)


def test_the_page_needs_nothing_from_outside(html: str) -> None:
    page = Page(html)
    links = page.attributes("href", "src", "srcset", "action", "data", "poster", "xlink:href")
    assert links
    assert all(link.startswith(("#", "data:image/")) for link in links)
    style, script = "".join(page.raw["style"]), page.raw["script"][-1]
    assert "url(" not in style
    assert "@import" not in style
    for call in ("fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import(", "importScripts"):
        assert call not in script
    assert not re.search(r"https?://", html)


def test_the_policy_allows_the_one_script_and_no_request(html: str) -> None:
    page = Page(html)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    # the last script is the page's own; the one before it is data
    digest = base64.b64encode(hashlib.sha256(page.raw["script"][-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_grids_arrive_in_the_browser_as_they_were(html: str) -> None:
    data = json.loads(Page(html).raw["script"][0])
    grid = data["scenes"][0]["grids"][0]
    assert zlib.decompress(base64.b64decode(grid["labels"])) == street().tobytes()
    assert [entry["name"] for entry in data["classes"]][4] == "car"
    assert "images" not in data["scenes"][0]  # they stand in the page once


def hostile(value: Any, text: str) -> Any:
    """``value`` with ``text`` before every free text in it."""
    fixed = {"schema", "created", "data_uri", "labels", "comparison", "status"}
    if isinstance(value, dict):
        return {k: v if k in fixed else hostile(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    return text + value if isinstance(value, str) else value


@pytest.mark.parametrize(
    "text",
    [
        "<script>hacked=1</script>",
        '"><img src=x onerror=hacked=1>',
        "</script><script>hacked=1</script>",
        "</title></style><b id=hacked>",
        "{{ 7 * 191 }}{% raw %}",
    ],
)
def test_names_cannot_become_markup(full: dict[str, Any], text: str) -> None:
    before, after = Page(render(hostile(full, "harmless"))), Page(render(hostile(full, text)))
    assert [tag for tag, _ in after.elements] == [tag for tag, _ in before.elements]
    assert "onerror" not in {name for _, found in after.elements for name in found}
    assert "hacked" not in after.attributes("id")
    assert after.raw["script"][-1] == before.raw["script"][-1]
    assert "1337" not in after.text


def test_keys_cannot_become_markup(full: dict[str, Any], html: str) -> None:
    report = copy.deepcopy(full)
    key = "<script>hacked=1</script>"
    report["environment"][key] = key
    report["environment"]["versions"][key] = key
    report["engines"][0]["passport"][key] = {key: [key]}
    report["agreement"][0]["summary"][key] = 1.0
    report["model"]["files"][0]["operators"][key] = 999
    report["quantization"][0]["quantized"][key] = 9
    page = Page(render(report))
    assert sum(tag == "script" for tag, _ in page.elements) == 2


def test_rendering_twice_gives_the_same_page(full: dict[str, Any], html: str) -> None:
    assert render(full) == html


@pytest.mark.parametrize(
    "case",
    [
        {"name": "no runs"},
        {"name": "one run", "latencies_ms": [3.0]},
        {"name": "equal runs", "latencies_ms": [3.0] * 9},
        {"name": "only p50", "percentiles": [{"p": 50, "value_ms": 4.0}]},
        {"name": "zero", "latencies_ms": [0.0, 0.0]},
        {"name": "no reason", "latencies_ms": [1.0, 9.0], "percentiles": [{"p": 99}]},
    ],
    ids=lambda case: case["name"],
)
def test_odd_timings_are_drawn_without_inventing_anything(case: dict[str, Any]) -> None:
    text = Page(render(minimal_report() | {"latency": {"cases": [case]}})).text
    assert "nan" not in text.lower().split()
    assert "No evidence" in text  # the other sections
    if case["name"] in ("no runs", "zero"):
        assert "no evidence: no run was timed" in text
    if case["name"] == "no reason":
        assert "not stated: these runs do not support it" in text


def test_the_page_says_what_loss_these_samples_could_have_shown(html: str) -> None:
    text = Page(html).text
    assert "mIoU: the smallest loss that 4 samples can show is 0.969 points." in text
    assert (
        "Label agreement of labels: the smallest loss that 4 samples can show is 0.288 point"
        in text
    )
    assert "SQNR of labels: the smallest change that 4 samples can show is 1.18 dB." in text
    assert "−0.705 to −0.265 points" in text
    assert "none: the copy is exact" in text


def test_samples_that_are_all_alike_claim_no_resolution(full: dict[str, Any]) -> None:
    report = copy.deepcopy(full)
    metric = report["agreement"][0]["paired"][1]
    metric["values"] = [{"sample": "only", "value": None}]
    metric["interval"] |= {"low": 0.0, "high": 0.0, "value": 0.0, "detectable": None}
    text = Page(render(report)).text
    assert "4 samples, all alike, so nothing is known of their spread" in text


def test_boundaries_without_a_finite_sqnr_give_a_sentence_instead_of_a_chart() -> None:
    layers = [{"tensor": "a", "sqnr_db": None, "max_abs": 0.0}, {"tensor": "b"}]
    agreement = [{"name": "x", "reference": "fp32", "candidate": "int8", "layers": layers}]
    page = Page(render(minimal_report() | {"agreement": agreement}))
    assert "No evidence: no boundary has a finite SQNR." in page.text
    assert not [tag for tag, _ in page.elements if tag == "svg"]


def test_sample_sets_and_what_was_found(full: dict[str, Any]) -> None:
    report = copy.deepcopy(full)
    text = Page(render(report)).text
    assert "calibrationmade-up-drives168e152337e4e85aa3e" in text
    assert "evaluationmade-up-drives8–efe77b201dc216c0" in text
    assert "No sample is in both sets, by the SHA-256 of its inputs." in text
    assert "error, overridden drift energy effect size 0.63, p = 0.001 Take both" in text
    report["samples"] |= {"shared": 3, "findings": []}
    text = Page(render(report)).text
    assert "3 evaluation samples also served for calibration" in text
    assert "The calibration-set doctor found nothing to say." in text
    # what holds for all files is said once
    told = {"code": "few", "severity": "note", "message": "3 samples are few", "fix": ""}
    report["samples"]["findings"] = [told]
    for entry in report["quantization"]:
        entry["calibration_set"] = {"findings": [told], "overridden": []}
    assert Page(render(report)).text.count("3 samples are few") == 1


def test_an_engine_that_was_not_built_says_why() -> None:
    finding = {"severity": "note", "message": "no builder for TensorRT 10 on this machine"}
    engines = [{"name": "int8-tensorrt tensorrt", "passport": {}, "findings": [finding]}]
    text = Page(render(minimal_report() | {"engines": engines})).text
    assert "INT8 TensorRT no evidence – no builder for TensorRT 10" in text


def test_counts_without_a_total_are_not_given_one(full: dict[str, Any]) -> None:
    report = copy.deepcopy(full)
    entry = report["quantization"][0]
    entry["quantized"], entry["total"] = {"Conv": 57, "Add": 16}, {"Conv": 60}
    report["quantization"] = [entry]
    text = Page(render(report)).text
    assert "Nodes quantized73 Multiply-adds" in text.replace("73 </dd>", "73").replace("  ", " ")
    assert "57 of 60" in text
    assert "16 of" not in text


def test_a_page_over_the_limit_is_refused(
    full: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "MAX_BYTES", 50_000)
    with pytest.raises(UserError, match=r"more than 50.0 kB\. Keep fewer samples"):
        render(full)


def test_a_full_report_is_far_below_the_limit(html: str) -> None:
    assert len(html.encode()) < 15_000_000 / 10


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "report.json").write_text(json.dumps(minimal_report()))
    return tmp_path


def test_the_page_lies_beside_its_data_and_names_its_hash(bundle: Path) -> None:
    page = write_report(bundle)
    assert page == bundle / "report.html"
    digest = hashlib.sha256((bundle / "report.json").read_bytes()).hexdigest()
    assert digest in page.read_text()


def test_an_existing_page_is_replaced_only_when_asked(bundle: Path) -> None:
    (bundle / "report.html").write_text("mine")
    with pytest.raises(UserError, match=r"exists already.*--overwrite"):
        write_report(bundle)
    assert (bundle / "report.html").read_text() == "mine"
    write_report(bundle, overwrite=True)
    assert "Nothing ran" in (bundle / "report.html").read_text()


def test_a_report_that_cannot_be_read_leaves_no_page(bundle: Path) -> None:
    (bundle / "report.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        write_report(bundle)
    assert [path.name for path in bundle.iterdir()] == ["report.json"]


def test_without_jinja2_the_extra_is_named(bundle: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.modules["jinja2"] = sys.modules["markupsafe"] = None
from deploy.report import write_report
from exporters.errors import MissingRequirementError
try:
    write_report(Path({str(bundle)!r}))
except MissingRequirementError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'edgeport[report]'" in run.stdout
    assert not (bundle / "report.html").exists()


def test_the_layer_that_loses_most_by_itself_is_named(full: dict[str, Any], html: str) -> None:
    told = html.partition("The layers that lose most by themselves")[2].partition("</ol>")[0]
    found = re.findall(r"<code>([^<]*)</code>.*?<b>([^<]*)</b>.*?<b>([^<]*)</b>", told, re.DOTALL)
    nodes = [one["node"] for one in full["agreement"][0]["alone"]]
    assert found[0] == (nodes[40], "0.3 dB", "4.2 dB")
    assert found[1] == (nodes[12], "0.1 dB", "31.0 dB")  # the larger error, but the outputs stay


def test_texts_are_beside_those_of_the_reference(html: str) -> None:
    section = html.partition('<section id="completions"')[2].partition("</section>")[0]
    assert Page(section).text.count("is a <b>device</b>") == 4, "escaped, and nothing is lost"
    assert re.findall(r"<mark>(.*?)</mark>", section) == [" of sailors &amp; surveyors."]
    row = re.search(r"<th scope=\"row\">W8A8</th>(.*?)</tr>", section, re.IGNORECASE)
    assert row is not None
    assert re.findall(r">([^<>]+)</td>", row[1]) == ["1 of 2", "8.5", "5"]
    assert "5 tokens the same" in Page(section).text


def test_each_loss_of_the_waterfall_has_its_owner(html: str) -> None:
    text = Page(html).text
    assert re.search(
        r"INT8after traced\s*rounding\s*30.9\S* %mIoU\s*0.8\S*.*0.3.* to 1.3.*24.5 dB", text
    )
    assert re.search(r"24.5 dB\s*12.5\S* %RayPQ\s*1.5\S*.*0.7.* to 2.3", text), "a line of its own"
    assert re.search(r"engineafter INT8\s*builder\s*no evidence: no device here", text)
