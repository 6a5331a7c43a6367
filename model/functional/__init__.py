"""Orthogonal Self-Attention as pure functions of tensors: no modules, no dispatch.

Three implementations of one definition: ``osa_dense`` (the reference), ``osa_qr`` (the paper's),
``osa_gram`` (linear in length, what the kernels compute).
"""

from osa.model.functional.attention import osa_dense, osa_gram, osa_qr

__all__ = ["osa_dense", "osa_gram", "osa_qr"]
