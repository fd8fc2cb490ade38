"""Licences of weights and data, carried into the manifest; those that bind the user are said aloud.

A licence is named by its SPDX identifier where it has one (spdx.org/licenses). Nothing here is
legal advice: a warning says that somebody has to look, silence says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNKNOWN = "not stated"

_NON_COMMERCIAL = re.compile(
    r"\bNC\b|-NC(-|$)|non[- ]?commercial|research[- ]only|nuscenes|kitti", re.I
)
_NETWORK_COPYLEFT = re.compile(r"\b(A?GPL|AGPL)\b|^A?GPL-|Affero", re.I)
_COMMUNITY = re.compile(r"llama|gemma|community licen[cs]e|openrail", re.I)


@dataclass(frozen=True)
class Licence:
    """What one part of a bundle may be used under.

    Attributes:
        part: ``weights``, ``calibration``, ``evaluation``, ``validation``.
        name: SPDX identifier, or the words of its owner.
    """

    part: str
    name: str = UNKNOWN

    @property
    def warning(self) -> str:
        """Why a person has to look at it; empty where nothing is known against it."""
        what = f"the licence of the {self.part} is {self.name}"
        if self.name == UNKNOWN:
            return ""
        if _NON_COMMERCIAL.search(self.name):
            return f"{what}: not for commercial use, and that holds for what is made from it"
        if _NETWORK_COPYLEFT.search(self.name):
            return f"{what}: copyleft; what is made from it may have to be published"
        if _COMMUNITY.search(self.name):
            return f"{what}: it has terms of use of its own"
        return ""


def warnings_of(licences: list[Licence]) -> list[str]:
    return [licence.warning for licence in licences if licence.warning]
