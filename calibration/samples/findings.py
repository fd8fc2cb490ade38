"""What can be wrong with samples, as values: a code, how grave it is, words, numbers, a remedy.

An *error* refuses the set, a *note* is told and recorded. ``--i-know CODE`` (or ``all``) lets a
calibration go on in spite of an error; the model file then says so for ever. Samples that cannot be
run or that hold NaN are refused always: there is nothing to know better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from exporters.errors import UserError, did_you_mean

Severity = Literal["error", "note"]

CODES: Mapping[str, str] = {
    "too-few": "fewer samples than asked for",
    "few": "enough to go on, fewer than is usual",
    "duplicates": "the same sample more than once",
    "near-duplicates": "samples that differ by less than a hundredth of their contrast",
    "almost-constant": "images with hardly any contrast",
    "wrong-range": "values on another scale than the model takes",
    "mixed-range": "some samples go to 1, others to 255",
    "wrong-layout": "pixels reshaped where they had to be transposed",
    "color-order": "red and blue exchanged against the evaluation set",
    "no-color": "three equal channels in every image",
    "random-data": "white noise for images",
    "drift": "another distribution than the evaluation set's",
    "overlap": "samples that the calibration set and the set to be judged by share",
    "drift-untested": "too few samples to compare two sets",
    "no-past": "single frames for a model that remembers",
    "unstable-ranges": "activations whose range one more sample would widen",
}
"""Findings that a set can have, ``--i-know`` knows these."""

FATAL: Mapping[str, str] = {
    "form": "an input is missing, unknown, or of another shape or type",
    "not-finite": "NaN or infinite values",
    "constant": "one value everywhere",
    "order": "a sequence with a gap, for a model that remembers",
}
"""Findings of a single sample that nothing overrides."""

ALL = "all"
OVERLAP = "overlap"
UNSTABLE_RANGES = "unstable-ranges"

DIGEST = 16
"""Hexadecimal digits of a digest: among a million samples, two alike once in 40 million sets."""

_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        code: a key of `CODES` or `FATAL`.
        message: where, what and how much; names samples.
        fix: what to do about it.
        samples: names of those concerned, all of them.
        numbers: what was measured.
    """

    code: str
    severity: Severity
    message: str
    fix: str = ""
    samples: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For reports and model files; of long lists of samples only the number remains."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "fix": self.fix,
            "samples": list(self.samples[:_NAMED]),
            "samples_concerned": len(self.samples),
            "numbers": {key: float(f"{value:.4g}") for key, value in self.numbers.items()},
        }


class SamplesRefusedError(UserError):
    """Samples that cannot be used, with the findings that say why."""

    def __init__(self, findings: Sequence[Finding], *, fix: str | None = None) -> None:
        self.findings = tuple(findings)
        message = "; ".join(finding.message for finding in findings)
        super().__init__(message, fix=findings[0].fix if fix is None else fix)


@dataclass(frozen=True)
class Diagnosis:
    """All findings about one set.

    Attributes:
        findings: errors first.
        overridden: codes of errors that ``--i-know`` passed over.
        digests: of every sample the first `DIGEST` characters of its `input_hash`, by which a
            model file knows what it was calibrated on.
    """

    findings: tuple[Finding, ...] = ()
    overridden: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def requiring(self, i_know: Iterable[str], recorded_by: str = "the model file") -> Diagnosis:
        """The same, with the errors that ``i_know`` passes over on record.

        Args:
            recorded_by: what keeps that record, for the message.

        Raises:
            SamplesRefusedError: there are other errors.
        """
        known = set(i_know)
        errors = [finding for finding in self.findings if finding.severity == "error"]
        refused = [f for f in errors if ALL not in known and f.code not in known]
        if refused:
            remedies = " ".join(dict.fromkeys(_sentence(f.fix) for f in refused))
            codes = " ".join(dict.fromkeys(f"--i-know {f.code}" for f in refused))
            raise SamplesRefusedError(
                refused, fix=f"{remedies} If it must be so: {codes}, which {recorded_by} records"
            )
        return replace(self, overridden=tuple(sorted({f.code for f in errors})))

    def plus(self, findings: Iterable[Finding]) -> Diagnosis:
        """The same with more notes."""
        return replace(self, findings=(*self.findings, *findings))

    @classmethod
    def parse(cls, saved: Mapping[str, Any]) -> Diagnosis:
        """From what ``asdict`` made, by way of JSON."""
        findings = [
            Finding(**{**item, "samples": tuple(item["samples"])}) for item in saved["findings"]
        ]
        return cls(tuple(findings), tuple(saved["overridden"]), tuple(saved.get("digests", ())))

    def to_json(self) -> dict[str, Any]:
        """For reports and model files."""
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "overridden": list(self.overridden),
            "digests": list(self.digests),
        }


def check_overrides(codes: Iterable[str]) -> None:
    """Check what ``--i-know`` names.

    Raises:
        UserError: no such finding, or one that nothing overrides.
    """
    for code in codes:
        if code in FATAL:
            raise UserError(
                f"--i-know {code}: {FATAL[code]} cannot be calibrated on",
                fix="Leave those samples out",
            )
        if code != ALL and code not in CODES:
            raise UserError(
                f"--i-know {code!r} is no finding", fix=did_you_mean(code, [*CODES, ALL])
            )


def named(samples: Sequence[str]) -> str:
    """Some names, and how many more there are.

    >>> named(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    rest = len(samples) - _NAMED
    return ", ".join(samples[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
