"""Fully-smooth block reconstruction: learned smoothing and clipping for language models."""

from __future__ import annotations

from importlib.util import find_spec

from exporters.errors import MissingRequirementError

if find_spec("torch") is None:
    raise MissingRequirementError(
        "torch is not installed; learning needs it", fix="pip install 'edgeport[export,llm]'"
    )
