"""Measurements behind every claim of speed or quality; reports are in ``reports/``."""
