"""The custom-op library for ONNX Runtime: native kernels of ``osa::OrthogonalAttention``.

Built by ``python -m osa.export.ort_ops.build``; a session without it runs the function body that
is stored in every model.
"""

from __future__ import annotations

from pathlib import Path

LIBRARY = Path(__file__).parent / "libosa_ort_ops.so"
"""Path of the built library."""
BUILD_COMMAND = "python -m osa.export.ort_ops.build"


def find_library() -> Path | None:
    """The library, or None where it has not been built."""
    return LIBRARY if LIBRARY.is_file() else None
