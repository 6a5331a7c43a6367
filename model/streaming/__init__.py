"""Sequences of any length in bounded memory: chunk by chunk, with sums over their tokens."""
