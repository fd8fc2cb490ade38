"""Findings about samples that two sets share: a model must not be judged by what it was fitted to.

Sets are compared by `input_hash`: name, file and labels do not count, so a copied, renamed or
re-packed image is found. Images that were saved anew with a loss are other images; they show as
near-duplicates within one set only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from calibration.samples.base import Samples, input_hash
from calibration.samples.findings import DIGEST, OVERLAP, Diagnosis, Finding, named
from calibration.samples.npz import NpzSamples
from calibration.samples.rolling import as_given

if TYPE_CHECKING:
    from exporters.modelfile import JSON


def overlap_findings(
    calibration: Iterable[str], other: Mapping[str, str], role: str
) -> Iterator[Finding]:
    """What ``other`` shares with a calibration set.

    Args:
        calibration: digests, or whole hashes.
        other: sample name to hash.
        role: what the other set is: ``evaluation``, ``validation``.
    """
    known = {digest[:DIGEST] for digest in calibration}
    shared = tuple(name for name, digest in other.items() if digest[:DIGEST] in known)
    if shared:
        yield Finding(
            OVERLAP,
            "error",
            f"{len(shared)} of {len(other)} {role} samples are in the calibration set too: "
            f"{named(shared)}",
            "Make disjoint sets with: edgeport samples SOURCE -o DIR "
            "--split calibration=16,validation=8,held-out=8",
            shared,
            {"shared": float(len(shared)), "of": float(len(other))},
        )


def calibration_digests(quantization: JSON | None) -> tuple[str, ...]:
    """What a model file was calibrated on, from its ``edgeport.quantization``; empty if unknown."""
    described = (quantization or {}).get("calibration_set", {})
    return tuple(described.get("digests", ()))


def apart_from_calibration(
    samples: Samples,
    quantization: JSON | None,
    role: str,
    i_know: Iterable[str] = (),
    recorded_by: str = "the result",
) -> Diagnosis:
    """Check that a set holds nothing that a model was calibrated on.

    Reads the samples unless their manifest says their hashes; not at all where the model file does
    not say what it was calibrated on.

    Args:
        quantization: ``edgeport.quantization`` of the model file.
        i_know: ``overlap`` or ``all`` to go on all the same.

    Raises:
        SamplesRefusedError: they overlap, and ``i_know`` does not say so.
    """
    digests = calibration_digests(quantization)
    if not digests:
        return Diagnosis()
    found = overlap_findings(
        digests, dict(zip(samples.names, hashes_of(samples), strict=True)), role
    )
    return Diagnosis(tuple(found)).requiring(i_know, recorded_by)


def hashes_of(samples: Samples) -> Iterable[str]:
    """`input_hash` of every sample as sensors gave it, from the manifest where there is one."""
    samples = as_given(samples)
    return samples.input_hashes() if isinstance(samples, NpzSamples) else map(input_hash, samples)
