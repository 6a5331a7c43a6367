"""From one graph to portable artifacts and the proof that they equal it.

The layer between ``osa.model``, which it may import, and ``osa.service``, which may import it.
"""
