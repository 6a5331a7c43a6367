"""Export of models to portable artifacts, with verification against the source.

The layer between ``osa.model``, which it may import, and ``osa.service``, which may import it.
"""
