"""Bounds of numbers that a person gives: beyond them a slip of the hand would fill any memory, or take days."""

LARGEST_SEED = 2**63 - 1
"""Every generator of random numbers takes it."""

MOST_SENTENCES = 10_000_000
"""To be written at once."""

MOST_IW_SAMPLES = 1_000_000
"""Samples of z for a sentence."""

MOST_STEPS = 10_000
"""Points of one path: every one of them becomes a sentence."""
