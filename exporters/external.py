"""Weights in a file of their own beside a model file.

A protobuf message ends at 2 GiB. Larger models keep their tensors in data files that the graph
names by a path relative to it, with offset and length. What such a path says is not trusted: it
must stay inside the model's folder, and the file must be there and long enough.

Written here: one data file ``NAME.onnx.data`` beside ``NAME.onnx``, every tensor at a multiple of
4096 bytes, so that runtimes can map it into memory.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from exporters.errors import UserError
from exporters.files import written_atomically
from exporters.validity import needed_bytes, tensors_of, write_checked

if TYPE_CHECKING:
    import onnx

MESSAGE_LIMIT_BYTES = 2**31 - 2**24
"""What one message may hold: protobuf's 2 GiB less room for the graph."""

SMALLEST_BYTES = 1024
"""Smaller tensors stay in the graph, where shape inference finds them."""

_ALIGNMENT_BYTES = 4096


def external_files(proto: onnx.ModelProto, path: Path) -> list[Path]:
    """The data files that ``proto``, read from ``path``, needs; empty for most models.

    Raises:
        UserError: a path leads out of the model's folder, or its file is missing or too short.
    """
    found: dict[Path, None] = {}
    for tensor in tensors_of(proto):
        if tensor.data_location == tensor.EXTERNAL:
            found[_checked_file(tensor, path)] = None
    return list(found)


def load_external(proto: onnx.ModelProto, path: Path) -> None:
    """Read the tensors of ``proto`` that lie in data files into it.

    Raises:
        UserError: as `external_files`.
    """
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    if not external_files(proto, path):
        return
    try:
        load_external_data_for_model(proto, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"cannot read the external data of {path}: {error}", fix=_FIX) from error
    for tensor in tensors_of(proto):  # leave no trace of where the data came from
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")


def payload_bytes(proto: onnx.ModelProto) -> int:
    """Bytes that the tensors take in the message; of a larger message, ByteSize() fails."""
    return sum(len(t.raw_data) if t.raw_data else t.ByteSize() for t in tensors_of(proto))


def data_path(path: Path) -> Path:
    return path.with_name(path.name + ".data")


def write_external(proto: onnx.ModelProto, path: Path, *, overwrite: bool = False) -> None:
    """Write ``path`` and its data file; the tensors are moved out of ``proto``.

    The data file is complete before the model file appears, and a model file that is replaced goes
    first: whatever happens, a model file that exists has its own data.

    Raises:
        UserError: one of the two exists and ``overwrite`` is false.
        onnx.checker.ValidationError: the graph is invalid, which is our bug.
    """
    data = data_path(path)
    with written_atomically(data, overwrite=overwrite) as temporary:
        _move_out(proto, temporary, data.name)
        if overwrite:
            path.unlink(missing_ok=True)
    try:
        with written_atomically(path, overwrite=overwrite) as temporary:
            write_checked(proto, temporary)
    except BaseException:
        data.unlink(missing_ok=True)
        raise


_FIX = "Copy the model together with its data files into one folder"
_AGAIN = "The file is truncated or of another model: copy it again"


def _checked_file(tensor: onnx.TensorProto, path: Path) -> Path:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"{path}: the data of tensor {tensor.name!r}"
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    if not location or absolute or ".." in parts:
        raise UserError(
            f"{what} lies at {location!r}, which is not a path inside the model's folder",
            fix="Do not use this file, or write it again with onnx.save_model(…, location=NAME)",
        )
    file = path.parent / location
    inside = path.parent.resolve()
    if file.is_symlink() or inside not in file.resolve().parents:
        raise UserError(
            f"{what} lies behind a symbolic link, {file}",
            fix="Copy the file that it names into the model's folder",
        )
    if not file.is_file():
        raise UserError(f"{what} should be in {file}, which does not exist", fix=_FIX)
    size, needed = file.stat().st_size, needed_bytes(tensor)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", needed))
    except ValueError as error:
        raise UserError(f"{what} has a damaged entry: {error}", fix=_AGAIN) from error
    if offset < 0 or offset + length > size:
        raise UserError(
            f"{what} should be bytes {offset} to {offset + length} of {file}, which has {size}",
            fix=_AGAIN,
        )
    if length != needed:
        raise UserError(
            f"{what} has {length} bytes, its shape {list(tensor.dims)} needs {needed}", fix=_AGAIN
        )
    return file


def _move_out(proto: onnx.ModelProto, file: Path, location: str) -> None:
    with file.open("wb") as stream:
        for tensor in tensors_of(proto):
            if len(tensor.raw_data) < SMALLEST_BYTES:
                continue
            offset = -(-stream.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
            stream.seek(offset)
            length = stream.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = tensor.EXTERNAL
            del tensor.external_data[:]
            for key, value in (("location", location), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
