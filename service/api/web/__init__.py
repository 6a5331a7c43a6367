"""Playground and API pages; the files are in ``static/``."""
