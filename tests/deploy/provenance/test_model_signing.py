"""Signatures are those of sigstore's model-signing: it checks ours, and we check its own.

pip install model-signing pyopenssl      # thirty packages, so not part of edgeport
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy.bundle import Bundle, write_manifest
from deploy.provenance.signing import make_keys, sign, verify_signature
from deploy.provenance.statement import root_of, unwrapped
from exporters.errors import UserError
from exporters.files import sha256_file


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "k.pem")
    return tmp_path / "k.pem"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with a manifest and files whose names sort otherwise as paths than as texts."""
    folder = tmp_path / "bundle"
    for path in ("models/fp32.onnx", "models-x/a", "report.json"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    write_manifest(folder, {"verdict": "pass", "created": "2026-01-01"})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file with its weights in another one."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 64] x) => (float[1, 64] y) '
        "{ y = MatMul(x, w) }"
    )
    weight = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    path = tmp_path / "files" / "m.onnx"
    path.parent.mkdir()
    onnx.save_model(proto, path, save_as_external_data=True, location="m.data", size_threshold=16)
    return path


def test_the_statement_lists_every_file(bundle: Path, key: Path) -> None:
    text = sign(bundle, key).read_text()
    signed = unwrapped(text)
    names = ["manifest.json", "models-x/a", "models/fp32.onnx", "report.json"]
    assert signed.resources == {name: sha256_file(bundle / name) for name in names}
    statement = json.loads(signed.payload)
    assert statement["subject"] == [
        {"name": "bundle", "digest": {"sha256": root_of(signed.resources)}}
    ]
    assert statement["predicate"]["edgeport"] == {"verdict": "pass", "created": "2026-01-01"}
    assert Bundle(bundle).differences() == []


def test_weights_beside_a_model_are_signed_with_it(model: Path, key: Path) -> None:
    assert set(unwrapped(sign(model, key).read_text()).resources) == {"m.onnx", "m.data"}
    verify_signature(model, Path(f"{key}.pub"))
    weights = model.with_name("m.data")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(UserError, match=r"m\.onnx is not the one that was signed"):
        verify_signature(model, Path(f"{key}.pub"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop("dsseEnvelope"), "dsseEnvelope"),
        (lambda f: f.update(mediaType="text/plain"), "of another format"),
        (lambda f: _restate(f, lambda s: s["predicate"]["resources"].pop()), "do not add up"),
        (lambda f: _restate(f, lambda s: s.update(predicateType="x")), "of another format"),
    ],
)
def test_what_is_no_signature_is_refused(
    bundle: Path, key: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    path = sign(bundle, key)
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=f"is no signature of a model: .*{words}"):
        verify_signature(bundle, Path(f"{key}.pub"))


def _restate(found: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> None:
    statement = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    change(statement)
    found["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


@pytest.mark.oracle
@pytest.mark.peer
def test_model_signing_checks_what_is_signed_here(
    bundle: Path, model: Path, key: Path, tmp_path: Path
) -> None:
    verifying = pytest.importorskip(
        "model_signing.verifying", reason="pip install model-signing pyopenssl"
    )
    alone = tmp_path / "alone.onnx"
    shutil.copy(bundle / "report.json", alone)

    def check(path: Path, signature: Path, **options: bool) -> None:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(f"{key}.pub"))
        if options:
            config = config.set_ignore_unsigned_files(True)
        config.verify(path, signature)

    engine = alone.rename(alone.with_suffix(".engine"))  # what is signed need be no ONNX
    check(bundle, sign(bundle, key))
    check(engine, sign(engine, key))
    check(model.parent, sign(model, key), unsigned=True)
    (bundle / "report.json").write_text("changed")
    with pytest.raises(ValueError, match=r"report\.json"):
        check(bundle, bundle / "signature.json")


@pytest.mark.oracle
@pytest.mark.peer
def test_what_model_signing_signed_is_checked_here(bundle: Path, key: Path) -> None:
    signing = pytest.importorskip(
        "model_signing.signing", reason="pip install model-signing pyopenssl"
    )
    config = signing.Config().use_elliptic_key_signer(private_key=key)
    config.sign(bundle, bundle / "signature.json")
    verify_signature(bundle, Path(f"{key}.pub"))
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(UserError, match=r"manifest\.json is not the one that was signed"):
        verify_signature(bundle, Path(f"{key}.pub"))
