"""Measurements of speed and quality; ``reports/`` has their results."""
