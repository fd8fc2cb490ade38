"""The calibration-set doctor: what is wrong with a set, before a scale comes from it.

    examination = examine(feeds, spec, described=True)
    diagnosis = diagnose(examination, minimum=2)
    diagnosis.requiring(i_know=())            # raises, or returns what the model file records

One streaming pass, bounded memory, a few milliseconds a sample. Every finding is a
`calibration.samples.findings.Finding`.
"""

from __future__ import annotations

from calibration.samples.checks import too_few
from calibration.samples.doctor.drift import drift_findings
from calibration.samples.doctor.duplicates import duplicate_findings
from calibration.samples.doctor.examination import Examination, examine
from calibration.samples.doctor.overlap import overlap_findings
from calibration.samples.doctor.scans import point_findings
from calibration.samples.doctor.structure import structure_findings
from calibration.samples.doctor.values import value_findings
from calibration.samples.findings import DIGEST, Diagnosis

__all__ = ["Diagnosis", "Examination", "diagnose", "examine"]


def diagnose(
    examination: Examination, minimum: int, evaluation: Examination | None = None
) -> Diagnosis:
    """Everything that can be said of a set, errors first.

    Args:
        minimum: number of different samples below which the set is refused.
        evaluation: the set that the model will be judged by, if there is one.
    """
    findings = [
        *too_few(len(examination.names), minimum),
        *duplicate_findings(examination, minimum),
    ]
    for name, images in examination.images.items():
        findings += value_findings(name, images)
        findings += structure_findings(name, images)
    for name, points in examination.points.items():
        findings += point_findings(name, points)
    if evaluation is not None:
        digests = examination.digests.values()
        findings += overlap_findings(digests, evaluation.digests, "evaluation")
        findings += drift_findings(examination, evaluation)
    return Diagnosis(
        tuple(sorted(findings, key=lambda finding: finding.severity)),
        digests=tuple(digest[:DIGEST] for digest in examination.digests.values()),
    )
