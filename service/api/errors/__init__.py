"""Errors as HTTP answers, in the dialect of each protocol."""
