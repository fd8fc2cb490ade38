"""Versions of what wrote a file: they travel in the model file and in every report."""

from __future__ import annotations

from importlib import metadata


def tool_versions(*distributions: str) -> dict[str, str]:
    """Version per distribution, edgeport first; those that are not installed are left out."""
    found = {name: _version(name) for name in ("edgeport", *distributions)}
    return {name: version for name, version in found.items() if version is not None}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
