"""From what was observed to a range, and from a range to a scale."""
