"""How many vectors a document has, and of how large chunks: without imports, for commands."""

from __future__ import annotations

CHUNK_TOKENS = 256
"""Tokens of a chunk where nothing else is asked for."""
VECTORS = 8
"""Vectors of a document where nothing else is asked for."""
MOST_VECTORS = 64
"""Most vectors of a document: the time of grouping grows with them."""
