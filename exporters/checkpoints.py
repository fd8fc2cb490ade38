"""Reading checkpoints safely and loading them strictly, with a report of every key.

A checkpoint is data: it is read without executing pickled code (``weights_only=True``, plus the
numpy scalars that mmcv keeps in ``meta``). Keys then pass through a *dialect*, which strips wrapper
prefixes, renames what other versions called differently and drops what inference does not need.
What remains must match the network exactly; anything else is an error that names the keys.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exporters.errors import UserError
from exporters.files import sha256_file

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("module.", "model.", "_orig_mod.", "ema_model.")
"""What DataParallel, Lightning, ``torch.compile`` and EMA wrappers put before every key."""

_NESTED = ("state_dict", "model_state", "model", "model_state_dict", "net")
_OPTIONAL_SUFFIX = ".num_batches_tracked"  # counts training steps; inference never reads it
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors from a file.

    Attributes:
        tensors: as the file names them.
        notes: what the file says of itself, ``EMA weights, epoch 24``.
    """

    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """How the keys of a family's checkpoints become its network's names.

    Attributes:
        renames: regular expression to replacement, applied to every key in order.
        drops: regular expression of (renamed) keys to leave out, to the reason.
    """

    renames: Mapping[str, str] = field(default_factory=dict)
    drops: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MappingReport:
    """What became of every key.

    Attributes:
        loaded: names in the network.
        renamed: name in the network to name in the file, where they differ.
        dropped: name in the file to the reason.
        missing: names of the network that the file lacks and inference can do without.
        notes: what the file says of itself.
    """

    loaded: tuple[str, ...]
    renamed: Mapping[str, str]
    dropped: Mapping[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "loaded": len(self.loaded),
            "renamed": dict(self.renamed),
            "dropped": dict(self.dropped),
            "missing": list(self.missing),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"loaded {len(self.loaded)} tensors", *self.notes]
        if self.renamed:
            new, old = next(iter(self.renamed.items()))
            lines.append(f"renamed {len(self.renamed)}, for example {old} to {new}")
        for reason in dict.fromkeys(self.dropped.values()):
            names = [name for name, why in self.dropped.items() if why == reason]
            lines.append(f"dropped {len(names)} ({_some(names)}): {reason}")
        if self.missing:
            lines.append(
                f"missing {len(self.missing)} ({_some(self.missing)}): not used in inference"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class NamedTensors:
    """A checkpoint's tensors under the network's names (see :class:`MappingReport`)."""

    source: Checkpoint
    tensors: Mapping[str, Tensor]
    renamed: Mapping[str, str]
    dropped: Mapping[str, str]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read ``.pth``/``.pt`` (plain, mmcv, EMA) or ``.safetensors`` without executing any code.

    Raises:
        UserError: no such file, truncated, of another format, no tensors, or it holds objects
            that only arbitrary code could load.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}", fix="Check --checkpoint")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    tensors = _find_tensors(content, path)
    return Checkpoint(path, sha256_file(path), tensors, _notes(content))


def apply_dialect(checkpoint: Checkpoint, dialect: Dialect) -> NamedTensors:
    """Bring the keys of ``checkpoint`` to the network's names.

    Raises:
        UserError: two keys of the file become the same name.
    """
    prefix = _wrapper_prefix(checkpoint.tensors)
    tensors: dict[str, Tensor] = {}
    renamed: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for key, tensor in checkpoint.tensors.items():
        name = key[len(prefix) :]
        for pattern, replacement in dialect.renames.items():
            name = re.sub(pattern, replacement, name)
        reason = next((why for what, why in dialect.drops.items() if re.match(what, name)), None)
        if reason is not None:
            dropped[key] = reason
            continue
        if name in tensors:
            raise UserError(
                f"{checkpoint.path}: {key} and {renamed.get(name, name)} both mean {name}",
                fix="Save one state_dict alone",
            )
        tensors[name] = tensor
        if name != key:
            renamed[name] = key
    return NamedTensors(checkpoint, tensors, renamed, dropped)


def load_strict(module: nn.Module, named: NamedTensors) -> MappingReport:
    """Copy ``named`` into ``module``; every tensor must be used and every parameter found.

    Raises:
        UserError: missing or extra keys, wrong shapes, or values that are not finite.
    """
    wanted = module.state_dict()
    path = named.source.path
    missing = [name for name in wanted if name not in named.tensors]
    needed = [name for name in missing if not name.endswith(_OPTIONAL_SUFFIX)]
    extra = [name for name in named.tensors if name not in wanted]
    if needed or extra:
        parts = [f"lacks {len(needed)} keys ({_some(needed)})"] if needed else []
        parts += [f"has {len(extra)} extra keys ({_some(extra)})"] if extra else []
        raise UserError(
            f"checkpoint {path} does not fit the network: it {' and '.join(parts)}",
            fix="Check that file and variant belong together: edgeport models",
        )
    for name, tensor in named.tensors.items():
        _check_tensor(path, name, tensor, tuple(wanted[name].shape))
    module.load_state_dict(dict(named.tensors), strict=not missing)
    return MappingReport(
        loaded=tuple(named.tensors),
        renamed=named.renamed,
        dropped=named.dropped,
        missing=tuple(missing),
        notes=named.source.notes,
    )


def _check_tensor(path: Path, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"checkpoint {path}: {name} has shape {list(tensor.shape)}, "
            f"the network expects {list(shape)}",
            fix="Check depth bins, classes and grid, or name another variant: edgeport models",
        )
    if not bool(tensor.isfinite().all()):
        raise UserError(
            f"checkpoint {path}: {name} holds NaN or infinite values",
            fix="The training diverged or the file is damaged; use an earlier checkpoint",
        )


def _read_pickle(path: Path) -> Any:
    import torch

    try:
        with _silenced(), torch.serialization.safe_globals(_numpy_scalar_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:[Uu]nsupported (?:global: )?GLOBAL|class) ([\w.]+)", str(error))
        if found:
            raise UserError(
                f"{path} holds a {found[1]} object, which would need code from the file to run",
                fix="Save its tensors alone, in the training environment: "
                "torch.save({'state_dict': model.state_dict()}, 'weights.pth')",
            ) from error
        raise _unreadable(path, "it was not written by torch.save") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """Torch warns about pickle protocols before it fails on them; the error is enough."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _numpy_scalar_globals() -> list[Any]:
    """Classes that pickled numpy scalars name; the old module path is that of numpy 1."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    paths = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *kinds, *((scalar, path) for path in paths)]


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, why: Exception | str) -> UserError:
    reason = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
    return UserError(
        f"{path} is not a readable checkpoint: {reason}",
        fix="It may be truncated, an error page or of another format; download or copy it again",
    )


def _find_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """The innermost mapping of names to tensors."""
    import torch

    if isinstance(content, Mapping):
        for key in _NESTED:
            if isinstance(content.get(key), Mapping):
                return _find_tensors(content[key], path)
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if tensors and len(tensors) == len(content):
            return tensors
        kind = f"a mapping with the keys {_some([str(key) for key in content])}"
    else:
        kind = f"a {type(content).__name__}"
    raise UserError(
        f"{path} holds no state_dict but {kind}",
        fix="Save it as: torch.save({'state_dict': model.state_dict()}, 'weights.pth')",
    )


def _notes(content: Any) -> tuple[str, ...]:
    if not isinstance(content, Mapping):
        return ()
    meta = content.get("meta")
    epoch = content.get("epoch", meta.get("epoch") if isinstance(meta, Mapping) else None)
    if "updates" in content:
        return (f"EMA weights, epoch {epoch}, {content['updates']} updates",)
    return (f"epoch {epoch}",) if epoch is not None else ()


def _wrapper_prefix(names: Iterable[str]) -> str:
    """The wrappers that all keys share, outermost first."""
    names = list(names)
    prefix = ""
    while names:
        wrapper = next((w for w in WRAPPERS if all(n.startswith(prefix + w) for n in names)), None)
        if wrapper is None:
            break
        prefix += wrapper
    return prefix


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
