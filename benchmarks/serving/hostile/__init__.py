"""Hostile clients beside ordinary load: whether a server that strangers use stays up and quick."""
