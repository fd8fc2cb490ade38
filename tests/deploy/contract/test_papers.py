"""JUnit XML against a schema and a reader from elsewhere; Markdown as GitHub would show it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.contract.junit import junit_xml
from deploy.contract.markdown import append_to_github, escaped, verdict_markdown
from deploy.verdict import Check, Verdict
from exporters.errors import UserError

CHECKS = (
    Check("int8: miou loss", 0.3, 0.5, "<=", "%", True, low=0.1, high=0.4),
    Check("int8: p99", 50.0, 40.0, "<=", "ms", False),
    Check("int8-tensorrt: miou loss", None, 0.5, "<=", "%", None, "no sample <has> truth | &"),
)
SCHEMA = Path(__file__).parent / "junit.xsd"


def parsed(text: str, folder: Path) -> list[object]:
    junitparser = pytest.importorskip("junitparser")
    path = folder / "junit.xml"
    path.write_text(text)
    return list(junitparser.JUnitXml.fromfile(str(path)))


def require_valid(text: str) -> None:
    xmlschema = pytest.importorskip("xmlschema")
    xmlschema.XMLSchema(str(SCHEMA)).validate(text)


@pytest.mark.oracle
def test_junit_is_valid_and_says_what_the_verdict_says(tmp_path: Path) -> None:
    text = junit_xml(Verdict(CHECKS), name="b", created="2026-01-02T03:04:05+00:00", host="h")
    require_valid(text)
    suites = parsed(text, tmp_path)
    assert [(s.name, s.tests, s.failures, s.skipped) for s in suites] == [  # type: ignore[attr-defined]
        ("int8", 2, 1, 0),
        ("int8-tensorrt", 1, 1, 0),
    ]
    results = [[r.type for r in case.result] for suite in suites for case in suite]  # type: ignore[attr-defined]
    assert results == [[], ["missed"], ["no evidence"]]
    failure = next(iter(suites[1])).result[0]  # type: ignore[call-overload]
    assert "no sample <has> truth | &" in failure.message


@pytest.mark.oracle
def test_nothing_checked_is_a_failure(tmp_path: Path) -> None:
    text = junit_xml(Verdict(()), name="empty")
    require_valid(text)
    (suite,) = parsed(text, tmp_path)
    assert (suite.tests, suite.failures) == (1, 1)  # type: ignore[attr-defined]


@pytest.mark.oracle
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([True, False, None]))
def test_any_text_stays_valid(name: str, note: str, ok: bool | None) -> None:
    text = junit_xml(Verdict((Check(name, 1.0, 2.0, ">=", "", ok, note),)), name=name)
    require_valid(text)


def test_markdown_shows_what_does_not_hold_first() -> None:
    text = verdict_markdown(Verdict(CHECKS), title="demo", facts=["Size: 4 MB"], notes=["Random."])
    lines = text.splitlines()
    assert lines[0] == "## demo: ❌ fail"
    rows = [line for line in lines if line.startswith("| int8")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| int8: p99",
        "| int8-tensorrt: miou loss",
        "| int8: miou loss",
    ]
    assert rows[2].endswith("| 0.3 % (0.1 to 0.4) | ≤ 0.5 % | ✅ ok |")
    assert r"no sample \<has> truth \| &" in rows[1]
    assert lines[-1] == "> Random."


@given(st.text(max_size=60))
def test_no_text_breaks_a_table(text: str) -> None:
    assert "\n" not in escaped(text)
    unescaped = escaped(text).replace("\\\\", "").replace("\\|", "")
    assert "|" not in unescaped


def test_a_github_summary_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "summary.md"
    target.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    append_to_github("after")
    assert target.read_text() == "before\nafter\n"
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    with pytest.raises(UserError, match="is not set, so there is no job to summarise"):
        append_to_github("x")
