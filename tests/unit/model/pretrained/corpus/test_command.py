"""The corpus command: what it writes, replaces and refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from osa.model.pretrained.corpus.__main__ import main
from osa.model.pretrained.corpus.catalogue import Catalogue, Source
from osa.model.pretrained.corpus.packages import Package
from tests.unit.model.pretrained.corpus.source_archives import (
    LETTERS,
    long_page,
    source_archive,
    write,
)


def lines_of(name: str) -> Callable[[Path], Iterator[str]]:
    return lambda root: iter((root / "texts-1" / name).read_text().splitlines())


def pages_of(name: str) -> Callable[[Path], Iterator[tuple[str, list[str]]]]:
    return lambda root: iter([(name, (root / "texts-1" / name).read_text().splitlines())])


def pairs_of(name: str) -> Callable[[Path], Iterator[tuple[str, str]]]:
    def read(root: Path) -> Iterator[tuple[str, str]]:
        for line in (root / "texts-1" / name).read_text().splitlines():
            query, _, passage = line.partition("|")
            yield query, passage

    return read


def small_catalogue(folder: Path) -> Catalogue:
    words = [f"{a}{b}{b}" for a in LETTERS for b in "ae"]
    files = {
        "dictionary": "".join(f"A word such as {word} is here.\n" for word in words * 50)
        + "Never train on this sentence.\n",
        "everyday": "A man rides a horse.\nA word such as aaa is here.\n"
        "Never train on this sentence.\n",
        "manual": "\n".join(long_page("manual")),
        "novel": "\n".join(long_page("novel")),
        "pairs": "".join(
            f"what {word} is|The answer to that is told at length.\n" for word in words
        )
        + "which one|The other one is what is meant by that.\n",
    }
    source_archive(folder, "texts-1", files)
    package = Package("texts", "MIT", "sdist", "1")
    return Catalogue(
        dictionaries=(Source("dictionary", package, lines_of("dictionary")),),
        sentences=(Source("everyday", package, lines_of("everyday")),),
        documents=(Source("manual", package, pages_of("manual")),),
        prose=frozenset({"manual"}),
        held_out_documents=(Source("novel", package, pages_of("novel")),),
        retrieval=(Source("pairs", package, pairs_of("pairs")),),
    )


def test_the_command_writes_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = small_catalogue(tmp_path)
    secret = write(tmp_path, "sts.tsv", "3.0\tNever train on this sentence.\tother\n")
    options = ["--packages", str(tmp_path), "--exclude", str(secret), "--output"]
    assert main([*options, str(tmp_path / "a")], catalogue) == 0
    told = capsys.readouterr().err.splitlines()
    assert {"unpacking texts (1 of 1)", "reading dictionary", "reading novel"} <= set(told)
    assert main([*options, str(tmp_path / "b")], catalogue) == 0
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == [
        "SOURCES.json", "documents.jsonl", "held_out.txt", "held_out_documents.jsonl",
        "held_out_pairs.jsonl", "sentences.txt", "train.txt", "train_pairs.jsonl",
    ]  # fmt: skip
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert len((tmp_path / "a/held_out.txt").read_text().splitlines()) == 52  # fewer than 2000
    sentences = (tmp_path / "a/sentences.txt").read_text().splitlines()
    assert "A man rides a horse." in sentences
    assert "A word such as aaa is here." not in sentences  # train.txt's
    assert not [line for line in sentences if "Never train" in line]
    document = json.loads((tmp_path / "a/documents.jsonl").read_text())
    assert sorted(document) == ["source", "text", "title"]
    held_out = (tmp_path / "a/held_out_pairs.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["query"] for line in held_out) == ["what aaa is", "which one"]
    (row,) = json.loads((tmp_path / "a/SOURCES.json").read_text())
    assert row["version"] == "1"
    assert row["texts"]["held_out.txt"] == {"dictionary": 52}
    assert row["texts"]["documents.jsonl"] == {"manual": 1}


def test_what_is_there_is_replaced_by_force_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, output = small_catalogue(tmp_path), tmp_path / "out"
    write(output, "train.txt", "mine")
    command = ["--packages", str(tmp_path), "--output", str(output)]
    assert main(command, catalogue) == 2
    assert f"{output} holds train.txt: pass --force to replace" in capsys.readouterr().err
    assert [file.read_text() for file in output.iterdir()] == ["mine"]
    assert main([*command, "--force"], catalogue) == 0
    assert (output / "train.txt").read_text() != "mine"


def test_a_volume_takes_the_files_where_nothing_can_be_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, output = small_catalogue(tmp_path), tmp_path / "out"
    output.mkdir()
    allowed = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path and allowed(path, mode))
    command = ["--packages", str(tmp_path), "--output"]
    assert main([*command, str(output)], catalogue) == 0
    assert main([*command, str(tmp_path / "other")], catalogue) == 2


def test_what_cannot_be_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue = small_catalogue(tmp_path)
    (tmp_path / "empty").mkdir()
    for folder, more, code, message in (
        ("nowhere", [], 2, "nowhere is not a directory"),
        ("", ["--exclude", "nowhere.tsv"], 2, "No such file or directory: 'nowhere.tsv'"),
        ("empty", [], 1, "holds no archive of texts"),
    ):
        command = ["--packages", str(tmp_path / folder), "--output", str(tmp_path / "out"), *more]
        assert main(command, catalogue) == code
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
