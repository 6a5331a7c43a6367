"""Training of encoders: ``osa train`` and ``osa tokenizer``. Only the command line imports it."""

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
"""Packaged configurations, one TOML file each."""
