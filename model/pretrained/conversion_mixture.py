"""Mix the files of the training corpus into the texts that the packaged models were converted on.

    python -m osa.model.pretrained.conversion_mixture --corpus data/text --output mixture.jsonl

``--corpus`` is the output of ``python -m osa.model.pretrained.corpus``. Everyday texts, dictionary
texts and the longer passages of pairs are the first of their files, whose order is that of digests,
so that they are a sample; of documents there are all. A JSON object with ``text`` a line, distinct,
ordered by digest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from osa.model.common.directories import check_parent
from osa.model.common.progress import say
from osa.model.errors import ConfigError
from osa.model.pretrained.corpus.cleaning import digest

SENTENCES, DEFINITIONS, PASSAGES = 110_000, 50_000, 25_000
SHORTEST_PASSAGE = 200
"""Of pairs, whose other passages are as short as the sentences [characters]."""


def mixture(corpus: Path) -> list[str]:
    """The texts, distinct and ordered by their digests.

    Raises:
        ConfigError: A file is missing or is not one of the corpus.
    """
    try:
        sentences = _lines(corpus / "sentences.txt")
        definitions = _lines(corpus / "train.txt")
        documents = [record["text"] for record in _records(corpus / "documents.jsonl")]
        passages = (record["passage"] for record in _records(corpus / "train_pairs.jsonl"))
        long = (passage for passage in passages if len(passage) > SHORTEST_PASSAGE)
        found = [
            *islice(sentences, SENTENCES),
            *islice(definitions, DEFINITIONS),
            *documents,
            *islice(long, PASSAGES),
        ]
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{corpus} is no corpus: {error}") from error
    return sorted(dict.fromkeys(found), key=digest)


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\n")


def _records(file: Path) -> Iterator[dict[str, str]]:
    return (json.loads(line) for line in _lines(file))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, mix and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="directory of the corpus")
    parser.add_argument("--output", type=Path, required=True, help="file of JSON lines")
    options = parser.parse_args(arguments)
    try:
        check_parent(options.output)
        texts = mixture(options.corpus)
    except ConfigError as error:
        parser.error(str(error))
    with options.output.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    say(f"{len(texts)} texts in {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
