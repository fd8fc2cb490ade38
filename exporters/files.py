"""Writing and hashing files so that no half-written or silently replaced output can exist.

An output is written under a temporary name beside its destination and renamed when complete;
rename within one directory is atomic on every platform we support.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporters.errors import MissingRequirementError, UserError

_CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def require_writable(path: Path, *, overwrite: bool = False) -> None:
    """Fail before the work starts, not after it, when ``path`` could not be written.

    Raises:
        UserError: the file exists and ``overwrite`` is false, or it is a directory.
        MissingRequirementError: the directory does not exist and cannot be made, or is read-only.
    """
    if path.is_dir():
        raise UserError(f"{path} is a directory", fix="Name a file with -o")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already", fix="Choose another -o, or pass --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise MissingRequirementError(
            f"cannot write to {path.parent}: {error.strerror}",
            fix="Choose a writable directory with -o",
        ) from error


@contextmanager
def written_atomically(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same directory; rename it to ``path`` if the block succeeds.

    On any exception, Ctrl-C included, the temporary file is removed and ``path`` is untouched.
    """
    require_writable(path, overwrite=overwrite)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes 0600; give what open() would have given
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    with written_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    write_bytes(path, text.encode(), overwrite=overwrite)
