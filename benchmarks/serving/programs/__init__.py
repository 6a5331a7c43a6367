"""Servers that are a framework and our few lines: they run in their own peer's environment.

They import nothing of this project's packages, and their framework alone.
"""
