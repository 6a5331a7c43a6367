"""Settings on the command line, for every command that runs a model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osa.model.common.suggestions import did_you_mean, field_names
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.service.settings import Settings

SHORTCUTS = {"model": "model.path", "host": "server.host", "port": "server.port"}
HELP = {
    "model": "checkpoint or artifact directory, packaged:NAME, or hf:ORG/NAME[@REVISION]",
    "host": "address to listen on",
    "port": "port to listen on",
}


def add_settings(parser: argparse.ArgumentParser, *shortcuts: str) -> None:
    """Declare ``--config``, ``--set``, and the named ``SHORTCUTS``."""
    for name in shortcuts:
        if name == "model":
            parser.add_argument("--model", type=Path, metavar="DIR", help=HELP[name])
            parser.add_argument(
                "--refresh", action="store_true", help="ask the hub again for hf: models"
            )
        else:
            parser.add_argument(f"--{name}", help=HELP[name])
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="override any setting (may be repeated); 'osa config' lists them",
    )


def read_settings(options: argparse.Namespace) -> Settings:
    """The settings of these arguments, the environment and the file.

    Raises:
        ConfigError: An unknown or invalid setting.
    """
    from osa.service.settings import MODELS, Settings, load_settings

    overrides: dict[str, Any] = {}
    for setting in options.set:
        name, separator, value = setting.partition("=")
        if not separator or ("." not in name and name != MODELS):
            suggestion = did_you_mean(name, field_names(Settings))
            raise ConfigError(f"--set takes SECTION.FIELD=VALUE, got {setting!r}{suggestion}")
        overrides[name] = value
    for option, name in SHORTCUTS.items():
        if getattr(options, option, None) is not None:
            overrides[name] = getattr(options, option)
    if getattr(options, "refresh", False):
        overrides["model.refresh"] = True
    return load_settings(overrides, file=options.config)
