"""Placeholder; see design."""
