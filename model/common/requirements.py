"""Checks of optional packages and tools."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from osa.model.errors import ConfigError


def is_installed(module: str) -> bool:
    """Whether a module is installed. Its parent packages are imported, the module is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # hidden, or partly removed
        return False


def has_compiler() -> bool:
    """Whether there is a C++ compiler: that of ``CXX``, g++ or c++."""
    return bool(os.environ.get("CXX")) or any(map(shutil.which, ("g++", "c++")))


def require(command: str, extra: str, *modules: str) -> None:
    """Refuse a command whose packages are not installed.

    Args:
        command: What needs them, for the message.
        extra: The extra of this project that installs them.
        modules: Names of the modules.

    Raises:
        ConfigError: Which are missing, and the extra.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise ConfigError(
            f"{command} needs {', '.join(missing)}: pip install 'osa-encoder[{extra}]'"
        )
