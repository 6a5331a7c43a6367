"""Triton kernels of what lies between two attentions, and behind the last one."""
