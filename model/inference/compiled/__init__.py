"""GPU kernels of a model, compiled before it is served."""
