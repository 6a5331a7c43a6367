"""Parity of an artifact with its source in float64: cases, reference, comparison."""
