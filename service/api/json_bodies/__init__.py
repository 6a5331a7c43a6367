"""Bodies as JSON: which bytes are read, and long arrays in pieces."""
