"""The signature file of OpenSSF's model-signing 1.0, which sigstore's ``model_signing`` reads too.

A Sigstore bundle that holds a DSSE envelope around an in-toto statement
(github.com/sigstore/model-transparency). The statement lists every file with its SHA-256; its
subject is the SHA-256 of these hashes one after another, as bytes. What is signed is DSSE's
pre-authentication encoding (github.com/secure-systems-lab/dsse):

    PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.files import sha256_bytes
from exporters.modelfile import canonical_json

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"

ITSELF = "."
"""The name of the only file, where that is what is signed."""


@dataclass(frozen=True)
class Signed:
    """What a signature file holds.

    Attributes:
        payload: the statement, as it was signed.
        hint: SHA-256 of the public key in PEM.
        resources: SHA-256 of every file that was signed, by its name.
    """

    payload: bytes
    signature: bytes
    hint: str
    resources: Mapping[str, str]


def statement_of(
    name: str, resources: Mapping[str, str], ignored: Sequence[str], more: Mapping[str, Any]
) -> bytes:
    """The statement about files, canonical.

    Args:
        name: of what they make up.
        resources: SHA-256 by name.
        ignored: names in the same folder that are not signed.
        more: of the predicate, which other readers pass over.
    """
    resources = dict(sorted(resources.items()))
    files = [
        {"name": path, "algorithm": "sha256", "digest": digest}
        for path, digest in resources.items()
    ]
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": list(ignored),
    }
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root_of(resources)}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": serialization, "resources": files, **more},
    }
    return canonical_json(statement).encode()


def root_of(resources: Mapping[str, str]) -> str:
    """SHA-256 of all hashes, in their order."""
    return sha256_bytes(b"".join(bytes.fromhex(digest) for digest in resources.values()))


def pae(payload: bytes) -> bytes:
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def wrapped(payload: bytes, signature: bytes, hint: str) -> str:
    """The text of a signature file."""
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, indent=2) + "\n"


def unwrapped(text: str) -> Signed:
    """What ``text`` holds, whose signature is still to be checked.

    Raises:
        ValueError: it is no such file, or its statement contradicts itself.
    """
    try:
        bundle = json.loads(text)
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        hint = str(bundle["verificationMaterial"]["publicKey"]["hint"])
        statement = json.loads(payload)
        files = statement["predicate"]["resources"]
        resources = {str(one["name"]): str(one["digest"]) for one in files}
        types = (bundle["mediaType"], envelope["payloadType"], statement["predicateType"])
        algorithms = {one["algorithm"] for one in files}
        root = statement["subject"][0]["digest"]["sha256"]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{error!r} is missing or of another type") from error
    if types != (MEDIA_TYPE, PAYLOAD_TYPE, PREDICATE) or algorithms != {"sha256"}:
        raise ValueError("it is of another format")
    if len(resources) != len(files) or root != root_of(resources):
        raise ValueError("its hashes do not add up to that of the whole")
    return Signed(payload, signature, hint, resources)
