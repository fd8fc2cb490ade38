"""How numbers read on the page: units, sensible digits, and words for what is not there.

One table column gets one number of decimals (``decimals``), so that digits line up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

NOTHING = "–"
_SHARES = {"agreement", "iou", "accuracy", "precision", "recall", "share", "fraction", "coverage"}
_UNITS = {"db": "dB", "ms": "ms", "mib": "MiB", "hz": "Hz", "m": "m", "s": "s"}
_TITLES = {
    "agreement": "Label agreement",
    "agreement_occupied": "Agreement where occupied",
    "max_abs": "Largest error",
    "mismatched": "No longer finite",
}
_SPELLINGS = {
    "tensorrt-rtx": "TensorRT-RTX",
    "tensorrt": "TensorRT",
    "onnxruntime": "ONNX Runtime",
    "fp32": "FP32",
    "fp16": "FP16",
    "bf16": "BF16",
    "int8": "INT8",
    "int4": "INT4",
    "miou": "mIoU",
    "rayiou": "RayIoU",
    "raypq": "RayPQ",
    "iou": "IoU",
    "sqnr": "SQNR",
    "rss": "memory",
    "cpu": "CPU",
}
_KNOWN_WORD = re.compile(rf"(?<!\w)({'|'.join(_SPELLINGS)})(?!\w)", re.IGNORECASE)
_TWICE = re.compile(rf"\b({'|'.join(set(_SPELLINGS.values()))}) \1(?![\w-])")
_TYPE_AND_MORE = re.compile(r"\b(FP32|FP16|BF16|INT8|INT4)-")


def decimals(values: Iterable[float | None], significant: int = 4) -> int:
    """Decimals that show ``significant`` digits of the smallest value, between 0 and 6.

    >>> decimals([484.21, 1312.4])
    1
    """
    sizes = [abs(v) for v in values if v and math.isfinite(v)]
    if not sizes:
        return 0
    return min(6, max(0, significant - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float | None, places: int | None = None) -> str:
    """A number with thousands separators; four significant digits unless ``places`` is given."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if places is None:
        places = 0 if float(value).is_integer() else decimals([value])
    return f"{round(value, places) or 0.0:,.{places}f}".replace("-", "−")  # never a minus zero


def plain(value: float) -> str:
    """Like ``number`` without trailing zeros: for readings that stand alone."""
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def signed_percent(share: float | None, places: int = 1) -> str:
    """A change of a share, with its sign; what rounds to nothing has none."""
    if share is None or math.isnan(share):
        return NOTHING
    text = f"{share * 100:+.{places}f}"
    return f"{'0' if float(text) == 0 else text.replace('-', '−')} %"


def signed(value: float | None, places: int | None = None) -> str:
    """A number with its sign, plus or minus."""
    text = number(value, places)
    return f"+{text}" if value is not None and value > 0 and text[0] != NOTHING else text


def share(value: float | None) -> str:
    """A share that may be tiny: ``0.0024 %``, two significant digits."""
    return NOTHING if value is None else f"{plain(float(f'{value * 100:.2g}'))} %"


def small(value: float | None) -> str:
    """A number of any size in three significant digits: ``0.00362``, ``1.2e-05``."""
    return NOTHING if value is None else f"{value:.3g}".replace("e-0", "e-").replace("-", "−")


def size(size_bytes: float) -> str:
    """Bytes in decimal units, as storage is sold: ``42.7 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def parameters(count: int) -> str:
    """A parameter count as papers print it: ``39.94 M``."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return str(count)


def duration(seconds: float | None) -> str:
    """Wall-clock time: ``0.42 s``, ``35.2 s``, ``3 min 12 s``."""
    if seconds is None:
        return NOTHING
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def memory(mib: float | None) -> str:
    return NOTHING if mib is None else f"{mib:,.0f} MiB"


def percent(share: float | None, places: int = 2) -> str:
    """A share of one, rounded so that only exactly everything reads 100 %."""
    if share is None or math.isnan(share):
        return NOTHING
    scale = 10**places
    scaled = share * 100 * scale
    rounded = math.floor(scaled) if 100 * scale - 1 < scaled < 100 * scale else round(scaled)
    return f"{rounded / scale:.{places}f} %"


def ordinal(p: float) -> str:
    """``p50``, ``p99.9``."""
    return f"p{p:g}"


def metric(name: str, value: Any) -> str:
    """A metric's value in the unit that its name promises; those of occupancy are in per cent.

    >>> metric("agreement", 0.98765), metric("sqnr_db", 31.4159), metric("miou_loss", 0.5)
    ('98.77 %', '31.42 dB', '0.50 %')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return NOTHING if value is None else str(value)
    words = re.split(r"[._]", name.lower())
    if "miou" in words or words[0].startswith(("rayiou", "raypq")):
        return f"{number(value, 2)} %"
    if is_share(name) and 0 <= value <= 1:
        return percent(value)
    if "cosine" in words:
        return number(value, 6)
    if words[-1] in _UNITS:
        places = 0 if isinstance(value, int) else 2
        return f"{number(value, places)} {_UNITS[words[-1]]}"
    return number(value)


def is_share(name: str) -> bool:
    """Whether a metric of this name is a share of one; mIoU is in per cent already."""
    words = re.split(r"[._]", name.lower())
    return bool(_SHARES & set(words)) and words[-1] != "count" and "miou" not in words


def metric_of(values: Mapping[str, Any], name: str) -> str:
    """The metric ``name`` among its neighbours: no SQNR and no error means an exact copy."""
    value = values.get(name)
    prefix, _, last = name.rpartition("sqnr_db")
    if value is None and not last and values.get(f"{prefix}max_abs") == 0:
        return "exact"
    return metric(name, value)


def title(name: str) -> str:
    """``worst_sqnr_db`` as a heading: ``Worst SQNR``; a unit at the end is dropped."""
    if name in _TITLES:
        return _TITLES[name]
    words = re.split(r"[-._ ]", name)
    if len(words) > 1 and words[-1].lower() in _UNITS:
        words = words[:-1]
    text = spelled(" ".join(words))
    return text if words[0].lower() in _SPELLINGS else text[:1].upper() + text[1:]


def spelled(text: str) -> str:
    """Known abbreviations in their usual spelling, once, and without a model file's ending.

    >>> spelled("int8-tensorrt.onnx"), spelled("build int8-tensorrt tensorrt")
    ('INT8 TensorRT', 'build INT8 TensorRT')
    """
    text = _KNOWN_WORD.sub(lambda found: _SPELLINGS[found[0].lower()], text.removesuffix(".onnx"))
    return _TWICE.sub(r"\1", _TYPE_AND_MORE.sub(r"\1 ", text))


def moment(iso: str) -> str:
    """An ISO time stamp in words, UTC; a text that is none stays as it is."""
    try:
        when = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return iso
    if when.tzinfo is not None:
        when = when.astimezone(timezone.utc)
    zone = " UTC" if when.tzinfo is not None else ""
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def plural(count: int, noun: str) -> str:
    """``1 sample``, ``2,000 samples``, ``3 classes``, ``4 boundaries``."""
    if count != 1:
        if noun.endswith("y"):
            noun = noun[:-1] + "ies"
        else:
            noun += "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}"
