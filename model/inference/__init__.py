"""Faster inference of a trained model with the same interface: bfloat16, fused blocks."""
