"""``edgeport report`` from the command line."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest

from deploy.bundle import Bundle, write_manifest
from deploy.cli import run
from tests.deploy.report.fixture import minimal_report


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(minimal_report()))
    (folder / "report.html").write_text("drawn by an older edgeport")
    write_manifest(folder, {"created": "now"})
    return folder


def test_a_page_elsewhere(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = bundle.parent / "page.html"
    assert run(["report", str(bundle), "-o", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(page),
        "size_bytes": page.stat().st_size,
    }
    assert Bundle.open(bundle).differences() == []


def test_redrawn_in_place_the_bundle_stays_intact(bundle: Path) -> None:
    assert run(["report", str(bundle), "--overwrite"]) == 0
    assert "Nothing ran" in (bundle / "report.html").read_text()
    assert Bundle.open(bundle).differences() == []


def test_redrawing_hides_no_change_of_another_file(bundle: Path) -> None:
    report = minimal_report() | {"title": "Tampered"}
    (bundle / "report.json").write_text(json.dumps(report))
    assert run(["report", str(bundle), "--overwrite"]) == 0
    assert Bundle.open(bundle).differences() == ["report.json was changed"]


def test_an_existing_page_is_kept(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(bundle)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert f"no report.json in {tmp_path}" in capsys.readouterr().err


def test_open_hands_the_page_to_the_browser(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run(["report", str(bundle), "--overwrite", "--open"]) == 0
    assert opened == [(bundle / "report.html").resolve().as_uri()]
