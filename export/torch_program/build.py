"""``EmbeddingModel`` to ``.pt2``: a plain exported program, or an AOTInductor package.

Both call the operator ``osa::attention`` of ``osa.model``, so the native kernels run inside. An
AOTInductor package is compiled for the type of device that the model is on; building it needs a C++
compiler, running it does not.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import torch

from osa.export.errors import ExportError
from osa.export.graph import Layout, trace
from osa.export.torch_program.compiler_cache import with_cache
from osa.model import EmbeddingModel
from osa.model.common.requirements import has_compiler
from osa.model.errors import OsaError
from osa.model.inference.bfloat16 import use_bfloat16


def in_dtype(model: EmbeddingModel, dtype: str) -> EmbeddingModel:
    """``model``, or a copy that computes in bfloat16 where that is ``dtype``."""
    if dtype == "bfloat16":
        return use_bfloat16(copy.deepcopy(model), keep_float32=False)
    return model


def save_program(model: EmbeddingModel, layout: Layout, path: Path) -> None:
    """Write the ``torch.export`` program.

    Raises:
        ExportError: The layout is not supported.
    """
    torch.export.save(trace(model, layout), str(path))


def compile_package(model: EmbeddingModel, layout: Layout, path: Path) -> None:
    """Compile and write the AOTInductor package, for the model's device.

    Raises:
        ExportError: The layout is not supported, there is no compiler, or it fails.
    """
    if not has_compiler():
        raise ExportError("aoti needs a C++ compiler: install one, or use --format torch-export")
    program = trace(model, layout)

    def compile_it() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))

    try:
        with_cache(compile_it)
    except OsaError:
        raise
    except Exception as error:  # inductor raises exceptions of many types
        raise ExportError(f"AOTInductor cannot compile this model: {error}") from error
