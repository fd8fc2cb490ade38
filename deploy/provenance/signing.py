"""A bundle or a model file signed with a local key: an in-toto statement in a DSSE envelope.

    BUNDLE/signature.json      MODEL.onnx.signature.json

A bundle's statement names its manifest by SHA-256, and the manifest every file; so one signature
covers all of them. That of a model file names the file, its weights included. ECDSA on P-256 with
SHA-256. What is signed is DSSE's pre-authentication encoding (github.com/secure-systems-lab/dsse):

    PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload

sigstore's model-signing writes the same envelope but brings a client for its transparency log, a
dozen packages more; a key that stays on one's own machine needs none of it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.bundle import MANIFEST, SIGNATURE, Bundle
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file, write_bytes, write_text
from exporters.modelfile import ModelFile, canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://edgeport.dev/bundle/v1"


def make_keys(private: Path, *, overwrite: bool = False) -> Path:
    """Write a new private key, unencrypted and readable by its owner alone, and its public key.

    Returns:
        The public key's path, ``PRIVATE.pub``.
    """
    ec, serialization = _cryptography()
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_bytes(private, text, overwrite=overwrite)
    private.chmod(0o600)
    public = private.with_name(f"{private.name}.pub")
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_bytes(public, shown, overwrite=overwrite)
    return public


@dataclass(frozen=True)
class Subject:
    """What is signed: a bundle's folder, or a file."""

    path: Path

    @property
    def bundle(self) -> Bundle | None:
        return Bundle(self.path) if self.path.is_dir() else None

    @property
    def signature(self) -> Path:
        if self.path.is_dir():
            return self.path / SIGNATURE
        return self.path.with_name(f"{self.path.name}.{SIGNATURE}")

    @property
    def name(self) -> str:
        return MANIFEST if self.path.is_dir() else self.path.name

    @property
    def sha256(self) -> str:
        """Of the manifest, or of the file; weights in a data file are part of a model."""
        if self.path.is_dir():
            return sha256_file(self.path / MANIFEST)
        return (
            ModelFile(self.path).sha256 if self.path.suffix == ".onnx" else sha256_file(self.path)
        )


def sign(path: Path, private: Path, *, overwrite: bool = False) -> Path:
    """Sign an intact bundle, or a file.

    Raises:
        UserError: the bundle was changed since it was made, it is signed already, or no such key.
    """
    subject = Subject(path)
    if path.is_file() and (folder := _bundle_of(path)) is not None:
        raise UserError(
            f"{path} lies in a bundle, whose signature covers it",
            fix=f"edgeport sign {folder} --key KEY",
        )
    require_intact(subject)
    key = _private_key(private)
    payload = canonical_json(_statement(subject)).encode()
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": _key_id(key.public_key()), "sig": _signed(key, payload)}],
    }
    target = subject.signature
    write_text(target, json.dumps(envelope, indent=2) + "\n", overwrite=overwrite)
    return target


def verify_signature(path: Path, public: Path) -> str:
    """Check signature, manifest and every file of a bundle, or a file; returns the key's id.

    Raises:
        UserError: unsigned, signed by another key, or something was changed.
    """
    subject = Subject(path)
    if not is_signed_with(subject, public):
        raise UserError(
            f"{path} was not signed with the key of {public}, or the signature was changed",
            fix="Ask its maker for the public key, or do not use it",
        )
    require_stated(subject)
    require_intact(subject)
    return _key_id(_public_key(public))


def is_signed_with(subject: Subject, public: Path) -> bool:
    """Whether the statement beside ``subject`` was signed with this key.

    Raises:
        UserError: there is no signature, or no such key.
    """
    from cryptography.exceptions import InvalidSignature

    key, envelope = _public_key(public), _envelope(subject)
    payload = base64.b64decode(envelope["payload"])
    try:
        _check(key, payload, base64.b64decode(envelope["signatures"][0]["sig"]))
    except InvalidSignature:
        return False
    return True


def require_stated(subject: Subject) -> None:
    """The manifest, or the file, is the one that the statement is about.

    Raises:
        UserError: it is not.
    """
    stated = json.loads(base64.b64decode(_envelope(subject)["payload"]))["subject"][0]
    if stated["digest"]["sha256"] != subject.sha256:
        changed = subject.path / MANIFEST if subject.path.is_dir() else subject.path
        raise UserError(
            f"{changed} is not the one that was signed",
            fix="Do not use it; ask its maker for an intact copy",
        )


def require_intact(subject: Subject, only: Path | None = None) -> None:
    """Files of a bundle are as its manifest says.

    Args:
        only: one of them, with what belongs to it; None for all.

    Raises:
        UserError: a file is missing, changed or foreign.
    """
    if subject.bundle is None:
        return
    changed = subject.bundle.differences()
    if only is not None:
        stem = only.relative_to(subject.path).with_suffix("").as_posix()
        changed = [one for one in changed if one.startswith(f"{stem}.")]
    if changed:
        raise UserError(
            f"{subject.path} is not as it was made: {'; '.join(changed[:3])}",
            fix="Do not use it; make it again with: edgeport run",
        )


def _bundle_of(path: Path) -> Path | None:
    return next((p for p in path.resolve().parents if (p / MANIFEST).is_file()), None)


def _statement(subject: Subject) -> dict[str, Any]:
    made = {} if subject.bundle is None else subject.bundle.manifest
    return {
        "_type": STATEMENT,
        "subject": [{"name": subject.name, "digest": {"sha256": subject.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {key: made[key] for key in ("verdict", "created") if key in made},
    }


def _envelope(subject: Subject) -> dict[str, Any]:
    path = subject.signature
    if not path.is_file():
        raise UserError(
            f"{subject.path} is not signed", fix=f"edgeport sign {subject.path.name} --key KEY"
        )
    try:
        envelope: dict[str, Any] = json.loads(path.read_text())
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
        base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        str(statement["subject"][0]["digest"]["sha256"])
        known = envelope["payloadType"] == PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, IndexError):
        known = False
    if not known:
        raise UserError(
            f"{path} is no DSSE envelope of a bundle or a file",
            fix="Ask its maker for an intact copy",
        )
    return envelope


def _pae(payload: bytes) -> bytes:
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _signed(key: EllipticCurvePrivateKey, payload: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return base64.b64encode(key.sign(_pae(payload), ECDSA(SHA256()))).decode()


def _check(key: EllipticCurvePublicKey, payload: bytes, signature: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    key.verify(signature, _pae(payload), ECDSA(SHA256()))


def _key_id(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the key as SubjectPublicKeyInfo, in hexadecimal."""
    _, serialization = _cryptography()
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256_bytes(der)


def _private_key(path: Path) -> EllipticCurvePrivateKey:
    ec, serialization = _cryptography()
    key = _loaded(path, lambda data: serialization.load_pem_private_key(data, None))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} is no ECDSA private key", fix="edgeport sign --make-keys KEY")
    found: EllipticCurvePrivateKey = key
    return found


def _public_key(path: Path) -> EllipticCurvePublicKey:
    ec, serialization = _cryptography()
    key = _loaded(path, serialization.load_pem_public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UserError(f"{path} is no ECDSA public key", fix="Name the file KEY.pub")
    found: EllipticCurvePublicKey = key
    return found


def _loaded(path: Path, load: Any) -> Any:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"cannot read the key {path}: {error.strerror}", fix="Check --key"
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no key in PEM: {error}", fix="Check --key") from error


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingRequirementError(
            "signatures need the package cryptography", fix="pip install 'edgeport[bundle]'"
        ) from error
    return ec, serialization
