"""Modules of an encoder: token mixers, feed-forward, positions, pooling, initial weights."""
