"""The documentation as a whole: every page is reached, every link leads somewhere, all current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

from deploy.cli import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Headings as GitHub names them, and places that have a name of their own."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = set(re.findall(r'<a id="([^"]+)">', text))
    return named | {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


def test_every_page_is_in_the_index() -> None:
    linked = {link.partition("#")[0] for link in links(DOCS / "README.md")}
    assert {page.name for page in PAGES} - {"README.md"} <= linked


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_the_reference_is_what_the_code_says() -> None:
    specification = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    written = (DOCS / "reference.md").read_text()
    assert module.reference() == written, "run: python docs/reference.py"


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "tutorial.md").read_text()
    (named,) = re.findall(r"`(exporters/\S+\.safetensors)`", page)
    shutil.copy(ROOT / named, tmp_path / "my.safetensors")
    recipe = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert recipe is not None
    (tmp_path / "recipe.yaml").write_text(recipe[1])
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    (edgeport [^:\n]*)$", page, re.MULTILINE)
    assert len(lines) == 11
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, (line, capsys.readouterr())
    monkeypatch.setenv("EDGEPORT_TRUSTED_KEYS", "release.pem.pub")
    model = tmp_path / "bundle" / "models" / "int8-onnxruntime.onnx"
    assert run(["inspect", str(model)]) == 0
    assert run(["inspect", "m.onnx"]) == 2, "nobody signed that one"
    model.write_bytes(model.read_bytes() + b" ")
    capsys.readouterr()
    assert run(["inspect", "bundle/models/int8-onnxruntime.onnx"]) == 2
    said = capsys.readouterr().err
    assert "is not as it was made: models/int8-onnxruntime.onnx was changed" in said
