"""Made-up texts of a language model for the made-up report."""

from __future__ import annotations

from typing import Any


def completions() -> list[dict[str, Any]]:
    """Two prompts, of which one file writes the first as FP32 does; its text is no markup."""
    sextant = " is a <b>device</b> that measures angles,\nand so latitudes."
    other = " is a <b>device</b> of sailors & surveyors."
    texts = [
        {"name": "fp32", "text": sextant, "tokens": 12},
        {"name": "w8a8", "text": sextant, "tokens": 12, "same_tokens": 12, "same_text": 59},
    ]
    parted = {"name": "w8a8", "text": other, "tokens": 12, "same_tokens": 5, "same_text": 19}
    return [
        {"prompt": "A sextant", "texts": texts},
        {"prompt": "An octant", "texts": [texts[0], parted]},
    ]
