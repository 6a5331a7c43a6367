"""Training: corpora, teachers, objectives, the loop. Nothing but the command line imports it."""

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
"""Packaged configurations, one TOML file each."""
