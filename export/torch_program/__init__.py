"""Artifacts of the formats ``aoti`` and ``torch-export``: build, run."""
