"""A bundle or a model file signed with a local key, as sigstore's model-signing does it.

    BUNDLE/signature.json      MODEL.onnx.signature.json

A bundle's statement names every file of it, that of a model file the file and its data files.
ECDSA on P-256 with SHA-256. The format is model-signing's (`deploy.provenance.statement`), and a
test lets it check what is signed here. It is not what signs: it brings clients of a transparency
log, thirty packages more, and a key that stays on one's own machine needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.bundle import MANIFEST, SIGNATURE, Bundle
from deploy.provenance.statement import ITSELF, Signed, pae, statement_of, unwrapped, wrapped
from exporters.errors import MissingRequirementError, UserError
from exporters.files import sha256_bytes, sha256_file, write_bytes, write_text
from exporters.modelfile import ModelFile

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )


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
    def stated(self) -> dict[str, str]:
        """SHA-256 of what a statement is checked by: the manifest, or the file with its data."""
        if self.path.is_dir():
            return {MANIFEST: sha256_file(self.path / MANIFEST)}
        data = ModelFile(self.path).data_files if self.path.suffix == ".onnx" else ()
        if not data:
            return {ITSELF: sha256_file(self.path)}
        return {one.name: sha256_file(one) for one in (self.path, *data)}


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
    payload = _statement(subject)
    target = subject.signature
    text = wrapped(payload, _signature(key, payload), _key_id(key.public_key()))
    write_text(target, text, overwrite=overwrite)
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

    key, signed = _public_key(public), _signed(subject)
    try:
        _check(key, signed.payload, signed.signature)
    except InvalidSignature:
        return False
    return True


def require_stated(subject: Subject) -> None:
    """The manifest, or the file, is the one that the statement is about.

    Raises:
        UserError: it is not.
    """
    signed, found = _signed(subject).resources, subject.stated
    whole = subject.path.is_dir() or signed.keys() == found.keys()
    if not whole or any(signed.get(name) != digest for name, digest in found.items()):
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


def _statement(subject: Subject) -> bytes:
    """About every file of a bundle that was found intact, or about a file."""
    resources, bundle = subject.stated, subject.bundle
    if bundle is None:
        return statement_of(subject.path.name, resources, [], {})
    made = bundle.manifest
    resources |= {entry["path"]: entry["sha256"] for entry in made["outputs"]}
    more = {key: made[key] for key in ("verdict", "created") if key in made}
    return statement_of(subject.path.resolve().name, resources, [SIGNATURE], {"edgeport": more})


def _signed(subject: Subject) -> Signed:
    path = subject.signature
    if not path.is_file():
        raise UserError(
            f"{subject.path} is not signed", fix=f"edgeport sign {subject.path.name} --key KEY"
        )
    try:
        return unwrapped(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is no signature of a model: {error}", fix="Ask its maker for an intact copy"
        ) from error


def _signature(key: EllipticCurvePrivateKey, payload: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return key.sign(pae(payload), ECDSA(SHA256()))


def _check(key: EllipticCurvePublicKey, payload: bytes, signature: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    key.verify(signature, pae(payload), ECDSA(SHA256()))


def _key_id(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the key in PEM, in hexadecimal: model-signing's hint."""
    _, serialization = _cryptography()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256_bytes(pem)


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
