"""Tokenising texts of any length in bounded memory, and so that it can be ended between steps."""
