"""Measurements behind every claim of speed or quality; reports are in ``reports/``.

Like the server, they settle what the processor is used for before torch is imported.
"""

from osa.model.processor import prepare

prepare()
