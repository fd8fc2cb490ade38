"""A bundle made again, compared, listed, licensed and signed."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

from deploy import Bundle, run
from deploy.cli import run as command_line
from deploy.provenance.bill import BILL
from deploy.provenance.differences import compare_reports, to_markdown
from deploy.provenance.licences import Licence
from exporters.errors import UserError
from tests.deploy.conftest import Mini
from tests.deploy.test_pipeline import recipe_for


@pytest.fixture(scope="module")
def made(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    licences = {"weights": "CC-BY-NC-SA-4.0", "calibration": "Apache-2.0"}
    recipe = recipe_for(mini, benchmark={"runs": 6, "warmup": 0, "threads": 1}, licences=licences)
    return run(recipe, tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def copy(made: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(made.path, tmp_path / "bundle")
    return Bundle(tmp_path / "bundle")


def test_every_byte_of_the_models_is_made_again(
    made: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["rebuild", str(made.path), "--verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes"] == []
    assert {f["path"]: f["outcome"] for f in found["files"]} == {
        "models/fp32.onnx": "the same",
        "models/int8-onnxruntime.onnx": "the same",
    }


def test_what_is_not_the_same_is_named_with_the_likely_reason(
    copy: Bundle, mini: Mini, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((copy.path / "recipe.json").read_text())
    recipe["samples"]["calibration"] = str(mini.evaluation)  # somebody moved other samples there
    recipe["samples"]["evaluation"] = str(mini.calibration)
    (copy.path / "recipe.json").write_text(json.dumps(recipe))
    assert command_line(["rebuild", str(copy.path), "--verify"]) == 2
    assert "recipe.json was changed" in capsys.readouterr().err
    manifest = copy.manifest
    entry = next(e for e in manifest["outputs"] if e["path"] == "recipe.json")
    from exporters.files import sha256_file

    entry["sha256"] = sha256_file(copy.path / "recipe.json")
    (copy.path / "manifest.json").write_text(json.dumps(manifest))
    assert command_line(["rebuild", str(copy.path), "--verify"]) == 1
    said = capsys.readouterr().out
    assert "differs" in said
    assert "changed since: calibration is not what it was" in said
    assert "not the same" in said


def test_equal_bundles_do_not_differ(made: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["diff", str(made.path), str(made.path)]) == 0
    assert "nothing differs" in capsys.readouterr().out
    assert compare_reports(made.report, made.report) == []


def test_a_diff_names_graph_precision_metric_and_size(
    made: Bundle, mini: Mini, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = {"scales": "minmax", "policies": ["onnxruntime"], "keep_float": ["img_backbone"]}
    recipe = recipe_for(
        mini, quantization=keep, benchmark=None, contract={"require": ["agreement>=1"]}
    )
    other = run(recipe, tmp_path / "other")
    comment = tmp_path / "comment.md"
    line = ["diff", str(made.path), str(other.path), "--markdown", str(comment), "--json"]
    assert command_line(line) == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    sections = {one["section"] for one in found}
    assert {"verdict", "graph", "precision", "size"} <= sections
    status = next(one for one in found if one["what"] == "status")
    assert (status["before"], status["direction"]) == ("pass", "worse")
    to_float = [one for one in found if one["section"] == "precision"]
    assert to_float
    assert {(one["before"], one["after"]) for one in to_float} == {("INT8", "float")}
    fewer = [one for one in found if one["what"] == "QuantizeLinear nodes"]
    assert fewer[0]["after"] < fewer[0]["before"]
    assert comment.read_text().startswith("## bundle to other")
    assert "| precision |" in comment.read_text()
    assert to_markdown([], "x") == "## x\n\nNothing differs.\n"


@pytest.mark.oracle
def test_the_bill_of_materials_is_valid_and_lists_what_is_there(made: Bundle) -> None:
    schema = pytest.importorskip("cyclonedx.schema")
    validators = pytest.importorskip("cyclonedx.validation.json")
    text = (made.path / BILL).read_text()
    validator = validators.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    bill = json.loads(text)
    components = {one["bom-ref"]: one for one in bill["components"]}
    files = {file["role"]: file["sha256"] for file in made.report["model"]["files"]}
    for role, sha256 in files.items():
        entry = components[f"model:{role}"]
        assert entry["type"] == "machine-learning-model"
        assert entry["hashes"] == [{"alg": "SHA-256", "content": sha256}]
        assert entry["licenses"][0]["license"]["id"] == "CC-BY-NC-SA-4.0"
    assert components["input:calibration"]["type"] == "data"
    assert components["library:onnx"]["purl"].startswith("pkg:pypi/onnx@")
    assert made.differences() == [], "the manifest has the bill's hash"


def test_licences_are_carried_and_those_that_bind_are_said(made: Bundle) -> None:
    assert made.manifest["licences"] == [
        {"part": "weights", "licence": "CC-BY-NC-SA-4.0"},
        {"part": "calibration", "licence": "Apache-2.0"},
        {"part": "evaluation", "licence": "not stated"},
    ]
    notes = made.report["notes"]
    assert any("CC-BY-NC-SA-4.0: not for commercial use" in note for note in notes)
    assert not any("Apache-2.0" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CC-BY-NC-4.0", "not for commercial use"),
        ("nuScenes Terms of Use, non-commercial", "not for commercial use"),
        ("AGPL-3.0-or-later", "copyleft"),
        ("GPL-2.0-only", "copyleft"),
        ("Llama 3 Community License", "terms of use of its own"),
        ("MIT", ""),
        ("Apache-2.0", ""),
        ("CC-BY-4.0", ""),
        ("LGPL-2.1-only", ""),
        ("not stated", ""),
    ],
)
def test_a_warning_says_that_somebody_has_to_look(name: str, words: str) -> None:
    warning = Licence("weights", name).warning
    assert words in warning
    assert bool(warning) == bool(words)


def test_a_signature_covers_every_file(
    copy: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, bundle = tmp_path / "release.pem", str(copy.path)
    assert command_line(["sign", "--make-keys", str(key)]) == 0
    assert key.stat().st_mode & 0o077 == 0, "nobody else may read a private key"
    public = f"{key}.pub"
    assert command_line(["sign", bundle, "--verify", public]) == 2
    assert "is not signed" in capsys.readouterr().err
    assert command_line(["sign", bundle, "--key", str(key)]) == 0
    assert copy.differences() == []
    assert command_line(["sign", bundle, "--verify", public]) == 0
    assert "every file is as it was" in capsys.readouterr().out
    assert command_line(["sign", "--make-keys", str(tmp_path / "other.pem")]) == 0
    assert command_line(["sign", bundle, "--verify", str(tmp_path / "other.pem.pub")]) == 2
    assert "was not signed with the key of" in capsys.readouterr().err
    report = copy.path / "report.json"
    whole = report.read_bytes()
    report.write_bytes(whole + b" ")
    assert command_line(["sign", bundle, "--verify", public]) == 2
    assert "report.json was changed" in capsys.readouterr().err
    report.write_bytes(whole)
    manifest = copy.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"pass"', '"pass" '))
    assert command_line(["sign", bundle, "--verify", public]) == 2
    assert "is not the one that was signed" in capsys.readouterr().err


@pytest.mark.oracle
def test_the_envelope_is_that_of_dsse(copy: Bundle, tmp_path: Path) -> None:
    """The encoding that is signed, written out here by its specification, checked with the key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from deploy.provenance.signing import make_keys, sign

    public = make_keys(tmp_path / "k.pem")
    envelope = json.loads(sign(copy.path, tmp_path / "k.pem").read_text())["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    key = serialization.load_pem_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(
        base64.b64decode(envelope["signatures"][0]["sig"]), signed, ec.ECDSA(hashes.SHA256())
    )
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    with pytest.raises(UserError, match="exists already"):
        sign(copy.path, tmp_path / "k.pem")
