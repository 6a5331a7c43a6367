"""Which files a directory of results was made of, so that those of others are not mixed in."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

FILES = ("texts", "held_out", "train_pairs", "pairs", "sts")


def check_inputs(record: Path, options: argparse.Namespace) -> None:
    """Note the files of a command, or compare them with those that were noted.

    Args:
        record: Digests by option, of earlier commands.
        options: Of the command.

    Raises:
        ValueError: Results there are of other files.
    """
    known: dict[str, str] = json.loads(record.read_text()) if record.is_file() else {}
    for name in FILES:
        files = getattr(options, name)
        if not files:
            continue
        digest = _digest([files] if isinstance(files, Path) else files)
        if known.setdefault(name, digest) != digest:
            flag = name.replace("_", "-")
            raise ValueError(
                f"{record.parent} holds results of other --{flag}: pass another --work"
            )
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(known, indent=1) + "\n")


def _digest(files: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        for part in sorted(file.glob("*.tsv")) if file.is_dir() else [file]:
            found.update(hashlib.sha256(part.read_bytes()).digest())
    return found.hexdigest()
