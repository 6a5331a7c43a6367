"""Engines: each runs one model on packed batches, behind one contract. See ``registry``."""
