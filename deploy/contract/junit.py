"""A verdict as JUnit XML, which every CI server reads.

One test case a check. A check without evidence is a ``failure`` too, never ``skipped``: a CI server
counts skipped tests as passed.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from itertools import groupby
from xml.etree import ElementTree as ET

from deploy.verdict import Check, Verdict

_NOTHING = Check("anything at all", None, 0.0, ">=", note="nothing was checked")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(verdict: Verdict, *, name: str, created: str = "", host: str = "") -> str:
    """The document, UTF-8 with its declaration.

    It keeps to the schema of Apache Ant, the strictest of the dialects: one suite for every file
    that was judged, nothing but a failure inside of a case.

    Args:
        name: of the whole, ``demo-bundle``.
        created: ISO time stamp of the measurement; else now.
        host: where it was judged; else ``localhost``.
    """
    checks = verdict.checks or (_NOTHING,)
    created = (created or datetime.now(timezone.utc).isoformat())[:19]  # without a time zone
    root = ET.Element("testsuites")
    owners = groupby(checks, key=lambda check: check.name.rpartition(": ")[0] or "bundle")
    for index, (owner, group) in enumerate(owners):
        members = list(group)
        attributes = {
            "id": str(index),
            "package": _token(name),
            "name": _token(owner),
            "timestamp": created,
            "hostname": _token(host or "localhost"),
            "tests": str(len(members)),
            "failures": str(sum(check.ok is not True for check in members)),
            "errors": "0",
            "skipped": "0",
            "time": "0",
        }
        suite = ET.SubElement(root, "testsuite", attributes)
        ET.SubElement(suite, "properties")
        suite.extend([_case(check, owner) for check in members])
        lines = "\n".join(str(check) for check in members)
        ET.SubElement(suite, "system-out").text = _clean(lines)
        ET.SubElement(suite, "system-err")
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(check: Check, owner: str) -> ET.Element:
    """``int8-tensorrt: miou loss`` is the case "miou loss" of the class ``int8-tensorrt``."""
    name = check.name.rpartition(": ")[2]
    attributes = {"name": _token(name), "classname": _token(owner), "time": "0"}
    case = ET.Element("testcase", attributes)
    if check.ok is not True:
        kind = "no evidence" if check.ok is None else "missed"
        failure = ET.SubElement(case, "failure", type=kind, message=_clean(str(check)))
        failure.text = _clean(check.note or str(check))
    return case


def _token(text: str) -> str:
    return " ".join(_clean(text).split()) or "unnamed"


def _clean(text: str) -> str:
    """Without what XML cannot hold at all: control characters, surrogates, U+FFFE and U+FFFF."""
    return _FORBIDDEN.sub("\ufffd", text)
