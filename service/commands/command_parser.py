"""argparse, with a suggestion where a choice was mistyped."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from osa.model.common.suggestions import did_you_mean


class CommandParser(argparse.ArgumentParser):
    """The parser of ``osa`` and, because sub-parsers take the class of theirs, of its commands."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, with the closest choice where there is one; exit with 2."""
        found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.+)\)", message)
        if found:
            message += did_you_mean(found[1], re.findall(r"[\w.-]+", found[2]))
        super().error(message)


def positive(text: str) -> int:
    """A whole number from 1, for ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return number
