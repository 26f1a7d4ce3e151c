"""Benchmarks: each prints JSON, compares two ways in one run as a ratio, and says on what machine."""
