"""Triton kernels of the terms that complete OSA, with gradients."""
