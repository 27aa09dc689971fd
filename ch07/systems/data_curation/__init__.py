"""Choosing rows: quality flags, near-duplicates, diversity."""
