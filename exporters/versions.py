"""Versions of what wrote a file: they travel in the model file and in every report."""

from __future__ import annotations

from importlib import metadata


def tool_versions(*distributions: str) -> dict[str, str]:
    """Version per distribution, edgeport first; those that are not installed are left out."""
    versions = {}
    for name in ("edgeport", *distributions):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
