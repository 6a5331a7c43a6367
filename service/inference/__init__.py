"""The use case: texts or ids in, vectors out. No HTTP."""
