"""Measurements: scripts that make the tables in ``benchmarks/results``."""
