"""Changed bytes of something signed are refused by whatever loads them, and so is a stranger's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import Bundle, run
from deploy.cli import run as command_line
from deploy.making import export
from deploy.provenance.loading import TRUSTED, require_as_signed, signed_subject
from deploy.provenance.signing import make_keys, sign, verify_signature
from deploy.recipe import Recipe
from deploy.stages import StageStore
from deploy.verification import verify
from deploy.workplace import Workplace
from exporters.errors import UserError
from tests.deploy.conftest import Mini, Refused
from tests.deploy.test_pipeline import recipe_for


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "release.pem"
    make_keys(path)
    return path


@pytest.fixture(scope="module")
def made(mini: Mini, tmp_path_factory: pytest.TempPathFactory, key: Path) -> Bundle:
    recipe = recipe_for(mini, benchmark=None, contract={"require": ["agreement>=0.01"]})
    bundle = run(recipe, tmp_path_factory.mktemp("signed") / "bundle")
    sign(bundle.path, key)
    return bundle


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(made.path, tmp_path / "bundle")
    return tmp_path / "bundle"


def change(path: Path) -> None:
    """One bit of the last byte: the file stays one that everybody can read."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "verify": lambda b: ["verify", f"{b}/models/fp32.onnx", f"{b}/models/int8-onnxruntime.onnx"],
    "build": lambda b: ["build", f"{b}/models/int8-onnxruntime.onnx"],
    "bench": lambda b: ["bench", f"{b}/models/int8-onnxruntime.onnx"],
    "inspect": lambda b: ["inspect", f"{b}/models/int8-onnxruntime.onnx"],
    "cast": lambda b: ["cast", f"{b}/models/int8-onnxruntime.onnx", "--to", "fp16"],
    "judge": lambda b: ["judge", str(b)],
    "report": lambda b: ["report", str(b)],
    "rebuild": lambda b: ["rebuild", str(b), "--verify"],
    "plan": lambda b: ["plan", str(b), "--loss", "0.5"],
    "diff": lambda b: ["diff", str(b), str(b)],
}
WRITES = ("build", "cast", "report")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_changed_bytes(
    bundle: Path, mini: Mini, refused: Refused, command: str
) -> None:
    change(bundle / "models" / "int8-onnxruntime.onnx")
    line = COMMANDS[command](bundle)
    line += ["--samples", str(mini.evaluation)] if command in ("verify", "bench") else []
    line += ["-o", str(refused.output)] if command in WRITES else []
    said = refused(2, *line)
    assert "is not as it was made: models/int8-onnxruntime.onnx was changed" in said
    assert "make it again with: edgeport run" in said


def test_another_file_of_the_bundle_is_nobodys_business(bundle: Path) -> None:
    """A model is loaded from a bundle whose report was changed; the bundle is not."""
    change(bundle / "report.json")
    require_as_signed(bundle / "models" / "fp32.onnx")
    with pytest.raises(UserError, match=r"report\.json was changed"):
        require_as_signed(bundle)


def test_a_new_manifest_does_not_hide_the_change(bundle: Path) -> None:
    """Who changes a file and the manifest with it would have to sign it, too."""
    from deploy.bundle import write_manifest

    model = bundle / "models" / "int8-onnxruntime.onnx"
    change(model)
    manifest = Bundle(bundle).manifest
    write_manifest(bundle, {k: v for k, v in manifest.items() if k not in ("schema", "outputs")})
    assert Bundle(bundle).differences() == []
    with pytest.raises(UserError, match=r"manifest\.json is not the one that was signed"):
        require_as_signed(model)


def test_python_refuses_too(bundle: Path, mini: Mini, tmp_path: Path) -> None:
    model = bundle / "models" / "int8-onnxruntime.onnx"
    change(model)
    with pytest.raises(UserError, match="was changed"):
        verify(bundle / "models" / "fp32.onnx", model, mini.evaluation)
    recipe = Recipe.model_validate(
        {**recipe_for(mini).model_dump(by_alias=True), "model": {"file": str(model)}}
    )
    place = Workplace(recipe, tmp_path, StageStore(tmp_path))
    with pytest.raises(UserError, match="was changed"):
        export(place)


def test_a_model_file_is_signed_by_itself(mini: Mini, key: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    shutil.copy(mini.int8, model)
    assert command_line(["sign", str(model), "--key", str(key)]) == 0
    assert (tmp_path / "m.onnx.signature.json").is_file()
    assert command_line(["sign", str(model), "--verify", f"{key}.pub"]) == 0
    assert command_line(["inspect", str(model)]) == 0
    change(model)
    with pytest.raises(UserError, match=r"m\.onnx is not the one that was signed"):
        verify_signature(model, Path(f"{key}.pub"))
    assert command_line(["inspect", str(model)]) == 2
    shutil.copy(mini.int8, tmp_path / "other.onnx")
    assert signed_subject(tmp_path / "other.onnx") is None
    require_as_signed(tmp_path / "other.onnx")  # nobody signed it, and nobody asks


def test_what_lies_in_a_bundle_is_signed_with_it(bundle: Path, key: Path) -> None:
    with pytest.raises(UserError, match="lies in a bundle, whose signature covers it"):
        sign(bundle / "models" / "fp32.onnx", key)


def test_only_those_who_are_trusted(
    bundle: Path, mini: Mini, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = make_keys(tmp_path / "stranger.pem")
    model = bundle / "models" / "fp32.onnx"
    monkeypatch.setenv(TRUSTED, f"{stranger}:{key}.pub")
    require_as_signed(bundle)
    require_as_signed(model)
    with pytest.raises(UserError, match=rf"fp32\.onnx is not signed, and \${TRUSTED} asks for it"):
        require_as_signed(mini.fp32)
    require_as_signed(mini.evaluation)  # samples have no signature
    monkeypatch.setenv(TRUSTED, str(stranger))
    with pytest.raises(UserError, match="signed with none of the keys"):
        require_as_signed(model)
    (bundle / "signature.json").unlink()
    with pytest.raises(UserError, match="bundle is not signed"):
        require_as_signed(bundle)
    assert command_line(["sign", str(bundle), "--key", str(key)]) == 0, "to sign it is no loading"


def test_half_a_signature_is_refused(bundle: Path) -> None:
    (bundle / "signature.json").write_text("{}")
    with pytest.raises(UserError, match="is no signature of a model: KeyError"):
        require_as_signed(bundle)
