"""A server of checkpoints imports no ONNX package through this package."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("onnx", "onnxruntime", "onnxscript", "ml_dtypes", "torch._inductor", "torch._dynamo")
LIGHT = ("formats", "manifest", "runner", "inspection", "cli", "processor", "parity.comparison",
         "parity.reference", "exporter", "onnx_model.format", "onnx_model.runner",
         "torch_program.formats", "ort_ops", "ort_ops.build")  # fmt: skip


def test_importing_brings_nothing_heavy() -> None:
    code = f"""
import importlib, sys, torch
before = set(sys.modules)
for module in {LIGHT}:
    importlib.import_module("osa.export." + module)
    for name in {HEAVY}:
        if name in sys.modules and name not in before:
            print(module, "brings", name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
