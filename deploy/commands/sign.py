"""``edgeport sign``: sign a bundle or a file with a local key, or check a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.console import Output
from exporters.errors import UserError


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle, model file or engine.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key to sign with, PEM.")] = None,
    verify: Annotated[
        Path | None, typer.Option(metavar="KEY.pub", help="Check with this public key instead.")
    ] = None,
    make_keys: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Write a new key, and KEY.pub beside it.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Sign a bundle, with every file of it; or a model file or an engine.

    For example:

        edgeport sign --make-keys release.pem

        edgeport sign demo-bundle --key release.pem

        edgeport sign demo-bundle --verify release.pem.pub

    The signature has the format of sigstore's model-signing 1.0, which verifies it too; the key is
    ECDSA on P-256 and stays on this machine. With --verify exit code 0 means that signature,
    manifest and every file are as they were signed; else it is 2. Every command checks what it
    loads: changed bytes of something signed are refused, and where EDGEPORT_TRUSTED_KEYS names
    public keys, so is what none of them signed.

    Known limits: the private key is not encrypted; whoever may read the file may sign.
    """
    from deploy.bundle import Bundle
    from deploy.provenance import signing

    out = Output(json=as_json)
    if make_keys is not None:
        public = signing.make_keys(make_keys, overwrite=overwrite)
        out.say(f"{make_keys} (keep it), {public} (give it away)")
        out.result({"private": make_keys, "public": public})
        return
    if bundle is None or (key is None) == (verify is None):
        raise UserError(
            "there is nothing to do",
            fix="Give a bundle with --key or --verify, or --make-keys",
        )
    path = bundle if bundle.is_file() else Bundle.open(bundle).path
    if key is not None:
        written = signing.sign(path, key, overwrite=overwrite)
        out.say(str(written))
        out.result({"signature": written})
    elif verify is not None:
        identity = signing.verify_signature(path, verify)
        out.say(f"signed with key {identity[:16]}, and every file is as it was")
        out.result({"key_id": identity, "intact": True})
