"""Bulk runs on many workers: pieces of the input, each block of the output made once, by name."""
