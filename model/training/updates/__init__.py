"""Updates of weights: gradients of large batches, and the optimizer."""
