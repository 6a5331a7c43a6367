"""KServe's Open Inference Protocol (v2)."""
