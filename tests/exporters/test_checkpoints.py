from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from exporters.checkpoints import (
    Dialect,
    MappingReport,
    apply_dialect,
    load_strict,
    read_checkpoint,
)
from exporters.errors import UserError
from exporters.files import sha256_file

DIALECT = Dialect(renames={r"^old\.": "0."}, drops={r"extra_head\.": "a head of another task"})


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def load(path: Path, dialect: Dialect = DIALECT) -> tuple[nn.Sequential, MappingReport]:
    """The file loaded into a network that started with other weights."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    return network, load_strict(network, apply_dialect(read_checkpoint(path), dialect))


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


META = {
    "meta": {"config": "model = dict()", "CLASSES": ("a", "b"), "epoch": 24, "time": "now"},
    "lr": np.float64(1e-4),
    "iterations": np.int64(42192),
    "flag": np.bool_(True),
}


def contents(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The same weights in every form that is met in the wild."""
    return {
        "plain": state,
        "mmcv": {"state_dict": state, "optimizer": {"lr": 1e-4}, **META},
        "ema": {"epoch": 24, "state_dict": state, "updates": 10560},
        "parallel": {"state_dict": {f"module.{name}": v for name, v in state.items()}},
        "lightning": {"state_dict": {f"model.module.{name}": v for name, v in state.items()}},
        "half": {
            "state_dict": {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
        },
        "pretrained": {
            **state,
            "extra_head.weight": torch.ones(2),
            "extra_head.bias": torch.ones(1),
        },
        "older": {name.replace("0.", "old.", 1): v for name, v in state.items()},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("form", sorted(contents({})))
def test_every_form_loads(form: str, zipped: bool, tmp_path: Path) -> None:
    network = make_network()
    path = tmp_path / "weights.pth"
    torch.save(contents(network.state_dict())[form], path, _use_new_zipfile_serialization=zipped)
    loaded, report = load(path)
    if form == "half":
        network = network.half().float()
    assert_equal(loaded, network)
    assert set(report.loaded) == set(network.state_dict())
    assert read_checkpoint(path).sha256 == sha256_file(path)


def test_numpy_1_pickles_load(tmp_path: Path) -> None:
    # numpy 2 writes numpy._core where numpy 1, which mmcv's training used, wrote numpy.core
    path = tmp_path / "old.pth"
    network = make_network()
    content = {"state_dict": network.state_dict(), **META}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    assert b"numpy._core.multiarray\nscalar" in written
    path.write_bytes(written.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"))
    loaded, _ = load(path)
    assert_equal(loaded, network)


def test_safetensors_load(tmp_path: Path) -> None:
    network = make_network()
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    loaded, _ = load(path)
    assert_equal(loaded, network)


def test_the_report_names_what_happened(tmp_path: Path) -> None:
    state = make_network().state_dict()
    state = {f"module.{name.replace('0.', 'old.', 1)}": value for name, value in state.items()}
    del state["module.1.num_batches_tracked"]
    state["module.extra_head.weight"] = torch.ones(2)
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 24, "state_dict": state, "updates": 10560}, path)
    _, report = load(path)
    text = str(report)
    assert "loaded 6 tensors" in text
    assert "EMA weights, epoch 24, 10560 updates" in text
    assert "renamed 6, for example module.old.weight to 0.weight" in text
    assert "dropped 1 (module.extra_head.weight): a head of another task" in text
    assert "missing 1 (1.num_batches_tracked): not used in inference" in text
    assert report.to_json()["renamed"]["0.weight"] == "module.old.weight"


def refuse(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.pth", "no checkpoint at", "Check --checkpoint")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_truncated_file(suffix: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(make_network().state_dict(), path)
    else:
        save_file(make_network().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refuse(path, "is not a readable checkpoint", "truncated")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_an_error_page_in_place_of_weights(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_text("<html><title>Quota exceeded</title></html>")
    refuse(path, "is not a readable checkpoint", "error page")


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": make_network().state_dict(), "hook": Malicious()}, path)
    refuse(path, "mkdir", "would need code from the file to run", "torch.save")
    assert not (tmp_path / "executed").exists()
    path.write_bytes(pickle.dumps(Malicious()))  # no torch file at all
    refuse(path, "was not written by torch.save")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2, 3], "a list"),
        ({"epoch": 3, "loss": 0.1}, "a mapping with the keys epoch, loss"),
        ({"state_dict": {"weight": torch.ones(1), "step": 3}}, "the keys weight, step"),
    ],
)
def test_a_file_without_weights(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    refuse(path, "holds no state_dict", words)


def test_missing_and_extra_keys_are_named(tmp_path: Path) -> None:
    state = make_network().state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.ones(1)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    refuse(
        path,
        "lacks 1 keys (0.bias)",
        "has 1 extra keys (2.weight)",
        "edgeport models",
    )


def test_many_keys_are_counted_not_listed(tmp_path: Path) -> None:
    state = {f"layer{i}.weight": torch.ones(1) for i in range(40)}
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    refuse(path, "has 40 extra keys (layer0.weight", "and 35 more")


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    state = make_network().state_dict()
    state["0.weight"] = torch.ones(8, 3, 1, 1)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    refuse(path, "0.weight has shape [8, 3, 1, 1]", "expects [4, 3, 1, 1]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value: float, tmp_path: Path) -> None:
    state = make_network().state_dict()
    state["1.running_var"][2] = value
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    refuse(path, "1.running_var holds NaN or infinite values")


def test_two_keys_of_one_meaning(tmp_path: Path) -> None:
    state = make_network().state_dict()
    state["old.weight"] = state["0.weight"]
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    refuse(path, "old.weight and 0.weight both mean 0.weight")
