"""Texts that a student learns on: pieces of them, pairs of them, and those that are long."""
