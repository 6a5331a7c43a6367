"""ONNX Runtime, imported here alone: nothing is sent, and standard error is left to the log.

Its builds for Linux send usage to their vendor from 1.31 on, and keep an id of the machine under
``~/.cache``. ``ORT_DISABLE_TELEMETRY`` has to be set before it is imported.
"""

from __future__ import annotations

import os
from types import ModuleType

from osa.export.errors import ExportError

SWITCH = "ORT_DISABLE_TELEMETRY"
FATAL = 4


def import_onnxruntime() -> ModuleType:
    """The module ``onnxruntime``.

    Raises:
        ExportError: It is not installed.
    """
    os.environ[SWITCH] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "ONNX artifacts need onnxruntime: pip install onnxruntime-gpu, or onnxruntime "
            "where there is no NVIDIA GPU"
        ) from error
    onnxruntime.disable_telemetry_events()  # in case something else has imported it before
    onnxruntime.set_default_logger_severity(FATAL)  # errors come as exceptions
    module: ModuleType = onnxruntime
    return module
