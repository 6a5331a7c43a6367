"""Artifacts of the format ``onnx``: one ONNX model, run by ONNX Runtime."""
