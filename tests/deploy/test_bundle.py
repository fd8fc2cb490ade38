"""Stages remember what they did, and a bundle is whole or is not there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from deploy.bundle import Bundle, partial_path, under_construction, write_manifest
from deploy.stages import StageStore, StageWork
from exporters.errors import MissingRequirementError, UserError


class Counter:
    """A stage that writes a file and counts how often it really ran."""

    def __init__(self, folder: Path, text: str = "one") -> None:
        self.folder = folder
        self.text = text
        self.runs = 0

    def __call__(self, stage: StageWork) -> None:
        self.runs += 1
        (self.folder / "out.txt").write_text(self.text)
        stage.outputs.append("out.txt")
        stage.notes.append("made")
        stage.result = {"length": len(self.text)}


def run_once(folder: Path, work: Counter, inputs: dict[str, Any]) -> StageStore:
    store = StageStore(folder)
    assert store.run("make it", inputs, work) == {"length": len(work.text)}
    return store


def test_a_stage_with_the_same_inputs_is_not_run_again(tmp_path: Path) -> None:
    work = Counter(tmp_path)
    first = run_once(tmp_path, work, {"option": 1})
    second = run_once(tmp_path, work, {"option": 1})
    assert work.runs == 1
    assert [record.cached for record in first.records + second.records] == [False, True]
    assert second.records[0].notes == ("made",)
    assert second.records[0].seconds == first.records[0].seconds


def test_other_inputs_run_it_again(tmp_path: Path) -> None:
    work = Counter(tmp_path)
    run_once(tmp_path, work, {"option": 1})
    run_once(tmp_path, work, {"option": 2})
    assert work.runs == 2


@pytest.mark.parametrize("damage", ["changed", "deleted", "record"])
def test_an_output_that_is_not_the_same_runs_it_again(tmp_path: Path, damage: str) -> None:
    work = Counter(tmp_path)
    run_once(tmp_path, work, {})
    if damage == "changed":
        (tmp_path / "out.txt").write_text("two")
    elif damage == "deleted":
        (tmp_path / "out.txt").unlink()
    else:
        (tmp_path / "stages" / "make-it.json").write_text("{")
    run_once(tmp_path, work, {})
    assert work.runs == 2
    assert (tmp_path / "out.txt").read_text() == "one"


def test_a_stage_that_fails_leaves_no_record_and_says_its_name(tmp_path: Path) -> None:
    def work(stage: StageWork) -> None:
        raise MissingRequirementError("no compiler", fix="Install one")

    with pytest.raises(MissingRequirementError, match=r"^quantize: no compiler\. Install one$"):
        StageStore(tmp_path).run("quantize", {}, work)
    assert not list(tmp_path.rglob("*.json"))


def test_what_an_earlier_recipe_left_is_removed(tmp_path: Path) -> None:
    run_once(tmp_path, Counter(tmp_path), {})
    (tmp_path / "old.onnx").write_text("of a recipe that named another policy")
    store = run_once(tmp_path, Counter(tmp_path), {})
    assert store.forget_others() == [tmp_path / "old.onnx"]
    assert (tmp_path / "out.txt").is_file()


def test_a_bundle_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    with under_construction(bundle, overwrite=False, fresh=False) as folder:
        assert folder == partial_path(bundle)
        assert not bundle.exists()
        (folder / "report.json").write_text("{}")
        write_manifest(folder, {"verdict": "pass"})
    assert sorted(path.name for path in bundle.iterdir()) == ["manifest.json", "report.json"]
    assert not partial_path(bundle).exists()
    assert Bundle.open(bundle).manifest["verdict"] == "pass"
    assert Bundle.open(bundle).differences() == []


def stop_after(bundle: Path, name: str, error: BaseException) -> None:
    """Write one file of a bundle, then fail."""
    with under_construction(bundle, overwrite=True, fresh=False) as folder:
        (folder / name).write_text("done")
        raise error


def test_interrupted_it_keeps_what_is_done(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    with pytest.raises(KeyboardInterrupt):
        stop_after(bundle, "model.onnx", KeyboardInterrupt())
    assert not bundle.exists()
    with under_construction(bundle, overwrite=False, fresh=False) as folder:
        assert (folder / "model.onnx").read_text() == "done"
        write_manifest(folder, {})
    assert (bundle / "model.onnx").is_file()


def make(bundle: Path) -> None:
    with under_construction(bundle, overwrite=True, fresh=False) as folder:
        (folder / "a.txt").write_text("a")
        write_manifest(folder, {})


def test_fresh_begins_with_an_empty_folder(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    make(bundle)
    with under_construction(bundle, overwrite=True, fresh=True) as folder:
        assert not (folder / "a.txt").exists()
        write_manifest(folder, {})


def test_overwriting_reuses_and_a_failure_leaves_the_old_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    make(bundle)
    with pytest.raises(UserError, match="broken"):
        stop_after(bundle, "b.txt", UserError("broken"))
    assert (partial_path(bundle) / "a.txt").read_text() == "a"
    assert Bundle.open(bundle).differences() == []


def test_a_bundle_is_not_replaced_unasked(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    make(bundle)
    with (
        pytest.raises(UserError, match=r"exists already\. Choose another -o, or pass --over"),
        under_construction(bundle, overwrite=False, fresh=False),
    ):
        pytest.fail("it was opened")


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with (
        pytest.raises(UserError, match="exists and is no bundle, so it is not replaced"),
        under_construction(tmp_path, overwrite=True, fresh=True),
    ):
        pytest.fail("it was opened")
    assert (tmp_path / "thesis.tex").is_file()


def test_an_unwritable_place_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(MissingRequirementError, match=r"cannot write to .*file: Not a directory"),
        under_construction(tmp_path / "file" / "bundle", overwrite=False, fresh=False),
    ):
        pytest.fail("it was opened")


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    messages: list[str] = []

    def second() -> None:
        try:
            with under_construction(bundle, overwrite=False, fresh=False):
                messages.append("both were let in")
        except UserError as error:
            messages.append(str(error))

    with under_construction(bundle, overwrite=False, fresh=False) as folder:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        write_manifest(folder, {})
    assert messages == [
        f"another edgeport run is writing {bundle}. Wait for it, or choose another -o"
    ]


def test_a_bundle_knows_what_was_changed(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    make(bundle)
    (bundle / "a.txt").write_text("b")
    (bundle / "c.txt").write_text("c")
    assert Bundle.open(bundle).differences() == [
        "a.txt was changed",
        "c.txt is not in the manifest",
    ]
    (bundle / "a.txt").unlink()
    assert "a.txt is missing" in Bundle.open(bundle).differences()


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no bundle: it has no manifest.json"):
        Bundle.open(tmp_path)
