"""A bundle signed with a local key: an in-toto statement in a DSSE envelope, ``signature.json``.

The statement names the bundle's manifest by SHA-256, and the manifest every file; so one signature
covers all of them. ECDSA on P-256 with SHA-256. What is signed is DSSE's pre-authentication
encoding (github.com/secure-systems-lab/dsse):

    PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload

sigstore's model-signing writes the same envelope but brings a client for its transparency log, a
dozen packages more; a key that stays on one's own machine needs none of it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.bundle import MANIFEST, SIGNATURE, Bundle
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file, write_bytes, write_text
from exporters.modelfile import canonical_json

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


def sign(bundle: Bundle, private: Path, *, overwrite: bool = False) -> Path:
    """Sign an intact bundle.

    Raises:
        UserError: the bundle was changed since it was made, it is signed already, or no such key.
    """
    _require_intact(bundle)
    key = _private_key(private)
    payload = canonical_json(_statement(bundle)).encode()
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": _key_id(key.public_key()), "sig": _signed(key, payload)}],
    }
    target = bundle.path / SIGNATURE
    write_text(target, json.dumps(envelope, indent=2) + "\n", overwrite=overwrite)
    return target


def verify_signature(bundle: Bundle, public: Path) -> str:
    """Check signature, manifest and every file of a bundle; returns the key's id.

    Raises:
        UserError: unsigned, signed by another key, of another manifest, or a file was changed.
    """
    from cryptography.exceptions import InvalidSignature

    key = _public_key(public)
    envelope = _envelope(bundle)
    payload = base64.b64decode(envelope["payload"])
    try:
        _check(key, payload, base64.b64decode(envelope["signatures"][0]["sig"]))
    except InvalidSignature as error:
        raise UserError(
            f"{bundle.path} was not signed with the key of {public}, or the signature was changed",
            fix="Ask its maker for the public key, or do not use it",
        ) from error
    subject = json.loads(payload)["subject"][0]
    if subject["digest"]["sha256"] != sha256_file(bundle.path / MANIFEST):
        raise UserError(
            f"{bundle.path / MANIFEST} is not the one that was signed",
            fix="Do not use it; ask its maker for an intact copy",
        )
    _require_intact(bundle)
    return _key_id(key)


def _statement(bundle: Bundle) -> dict[str, Any]:
    digest = {"sha256": sha256_file(bundle.path / MANIFEST)}
    return {
        "_type": STATEMENT,
        "subject": [{"name": MANIFEST, "digest": digest}],
        "predicateType": PREDICATE,
        "predicate": {"verdict": bundle.manifest["verdict"], "created": bundle.manifest["created"]},
    }


def _envelope(bundle: Bundle) -> dict[str, Any]:
    path = bundle.path / SIGNATURE
    if not path.is_file():
        raise UserError(f"{bundle.path} is not signed", fix="edgeport sign BUNDLE --key KEY")
    try:
        envelope: dict[str, Any] = json.loads(path.read_text())
        base64.b64decode(envelope["payload"], validate=True)
        base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        known = envelope["payloadType"] == PAYLOAD_TYPE
    except (ValueError, KeyError, TypeError, IndexError):
        known = False
    if not known:
        raise UserError(
            f"{path} is no DSSE envelope of a bundle", fix="Ask its maker for an intact copy"
        )
    return envelope


def _require_intact(bundle: Bundle) -> None:
    changed = bundle.differences()
    if changed:
        raise UserError(
            f"{bundle.path} is not as it was made: {'; '.join(changed[:3])}",
            fix="Do not use it; make it again with: edgeport run",
        )


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
