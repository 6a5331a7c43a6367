"""Draw what all systems are trained and scored on from the packaged model's corpus.

    python -m benchmarks.systems.sample --corpus data/text --output data/systems

``--corpus`` is the output of ``python -m osa.model.pretrained.corpus``, made with ``--exclude`` of
the evaluation sets. Its files are ordered by digests, so that their first records are a sample.
Writes ``texts.txt``, ``held_out.txt``, ``pairs.jsonl`` (scored) and ``train_pairs.jsonl``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from osa.model.common.directories import check_parent
from osa.model.common.progress import say
from osa.model.errors import ConfigError
from osa.model.pretrained.corpus.cleaning import digest

SENTENCES, DEFINITIONS, PASSAGES = 18_000, 10_000, 4_000
HELD_OUT, PAIRS, TRAIN_PAIRS = 500, 600, 12_000


def draw(corpus: Path) -> dict[str, list[str]]:
    """Lines of every file, by its name.

    Raises:
        ConfigError: A file is missing, is shorter than its sample or is not one of the corpus.
    """
    passages = [_passage(line) for line in _first(corpus / "train_pairs.jsonl", PASSAGES)]
    texts = [
        *_first(corpus / "sentences.txt", SENTENCES),
        *_first(corpus / "train.txt", DEFINITIONS),
        *passages,
    ]
    return {
        "texts.txt": sorted(dict.fromkeys(texts), key=digest),
        "held_out.txt": _first(corpus / "held_out.txt", HELD_OUT),
        "pairs.jsonl": _first(corpus / "held_out_pairs.jsonl", PAIRS),
        "train_pairs.jsonl": _first(corpus / "train_pairs.jsonl", TRAIN_PAIRS),
    }


def _first(file: Path, count: int) -> list[str]:
    try:
        with file.open(encoding="utf-8") as lines:
            found = [line.rstrip("\n") for line in islice(lines, count)]
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
    if len(found) < count:
        raise ConfigError(f"{file} has {len(found)} records, and {count} are drawn")
    return found


def _passage(line: str) -> str:
    try:
        return " ".join(str(json.loads(line)["passage"]).split())
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"train_pairs.jsonl is none of a corpus: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="directory of the corpus")
    parser.add_argument("--output", type=Path, required=True, help="directory")
    options = parser.parse_args(arguments)
    try:
        check_parent(options.output)
        files = draw(options.corpus)
    except ConfigError as error:
        parser.error(str(error))
    options.output.mkdir(exist_ok=True)
    for name, lines in files.items():
        (options.output / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    counts = ", ".join(f"{len(lines)} in {name}" for name, lines in files.items())
    say(f"{options.output}: {counts}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
