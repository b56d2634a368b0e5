"""Ratios against the limit of the platform, measured in one interleaved run (decision 19)."""
