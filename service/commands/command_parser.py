"""argparse with suggestions for mistyped choices."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from osa.model.common.suggestions import did_you_mean


class CommandParser(argparse.ArgumentParser):
    """The parser of ``osa`` and of its commands: sub-parsers have the class of their parent."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, with a suggestion where there is one; exit with 2."""
        found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.+)\)", message)
        if found:
            message += did_you_mean(found[1], re.findall(r"[\w.-]+", found[2]))
        super().error(message)


def positive(text: str) -> int:
    """Parse a positive integer, for ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: It is not a positive integer.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return number
