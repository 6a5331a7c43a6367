"""Packages that a command needs besides those that are always installed."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

from osa.model.errors import ConfigError


def is_installed(module: str) -> bool:
    """Whether a module can be found; packages above it are imported, it is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # hidden, or half removed
        return False


def has_compiler() -> bool:
    """Whether there is a C++ compiler: the one that ``CXX`` names, or a usual one."""
    return bool(os.environ.get("CXX")) or any(map(shutil.which, ("g++", "c++")))


def require(command: str, extra: str, *modules: str) -> None:
    """Refuse a command whose packages are not installed.

    Args:
        command: Who needs them, for the message.
        extra: Which extra of this project brings them.
        modules: Their names, in the order of the message.

    Raises:
        ConfigError: Naming what is missing, and the extra.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        raise ConfigError(
            f"{command} needs {', '.join(missing)}: pip install 'osa-encoder[{extra}]'"
        )
