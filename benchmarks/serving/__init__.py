"""Servers under load: ours and the peers that PyPI has, on encoders of equal width and depth."""
