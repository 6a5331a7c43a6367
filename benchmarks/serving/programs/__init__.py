"""Servers built on serving frameworks; each runs in the environment of its framework.

They import nothing of this project's packages.
"""
