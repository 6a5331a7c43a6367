"""The preparation of training text: cleaning, what is held out, and the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from osa.model.training.prepare import documents, pairs, templates
from osa.model.training.prepare.__main__ import main
from osa.model.training.prepare.catalogue import PACKAGED, Catalogue, Source
from osa.model.training.prepare.cleaning import clean, is_text, normalized
from osa.model.training.prepare.packages import Package, fetch
from osa.model.training.prepare.scenes import WORDNET_LISTS

PROSE = "This is the prose of a page and it says that the sky is blue in the morning. "
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write(root: Path, name: str, content: str) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    return file


# What is kept


def test_cleaning_drops_noise_repeats_and_excluded_texts() -> None:
    texts = ["A cat sat on the mat.", "a cat sat on the mat", "1 2 3 4", "two words",
             "The dog  ran\naway.", "Secret test sentence here."]  # fmt: skip
    kept = clean(texts, {normalized("secret TEST sentence, here")})
    assert sorted(kept) == ["A cat sat on the mat.", "The dog ran away."]


def test_the_order_depends_on_the_texts_alone() -> None:
    texts = [f"This is sentence number {word}." for word in ("one", "two", "three", "four")]
    assert clean(texts, set()) == clean(texts[::-1], set())


def test_what_reads_as_text() -> None:
    assert is_text("a thing that exists")
    assert not is_text("a b")
    assert not is_text("== $x { return 1; } ==")
    assert not is_text("word " * 100)


def long_page(mark: str) -> list[str]:
    return [f"{PROSE} Part {mark} {LETTERS[i]}." for i in range(20)]


def test_documents_are_distinct_english_and_of_an_allowed_length() -> None:
    page = documents.document("1.2 Sky — Manual", [*long_page("x"), "x = f(1)"], "s")
    assert page.title == "Sky"
    assert "f(1)" not in page.text
    short = documents.document("Short", long_page("y")[:3], "s")
    german = documents.document("D", ["Das ist der Himmel und er ist am Morgen blau. " * 30], "s")
    assert list(documents.distinct([page, page, short, german], set())) == [page]
    excluded = {normalized(long_page("x")[0])}
    (left,) = documents.distinct([page], excluded)
    assert left.text.count("\n") == page.text.count("\n") - 1


def test_boiler_plate_goes_and_long_documents_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    plate = "This notice is in the head of every page and it is of no use to a reader."
    found = list(
        documents.distinct(
            (documents.document(mark, [plate, *long_page(mark)], "s") for mark in LETTERS[:5]),
            set(),
        )
    )
    assert [plate in item.text for item in found] == [True, True, True, False, False]
    monkeypatch.setattr(documents, "MAX_WORDS", 230)
    parts = list(documents.distinct([documents.document("t", long_page("x"), "s")], set()))
    assert [len(part.text.split()) <= 230 for part in parts] == [True, True]


def test_pairs_without_repeats_or_word_for_word_answers() -> None:
    def made(query: str, passage: str) -> tuple[pairs.Pair, int]:
        return pairs.pair(query, passage, "s"), 2

    kept = made("blue sky", "What is above us on a fine day.")
    dropped = [
        made("blue sky", "Another text about something else at all."),
        made("one more", "What is above us on a fine day."),
        made("a fine day", "This is a fine day for all of us."),
        made("short", "A query of one word is too short here."),
        made("few words", "Too short."),
        made("secret thing", "An evaluation's text that may not be used."),
    ]
    found = pairs.distinct([kept, *dropped], {normalized("secret thing")})
    assert list(found) == [kept[0]]
    some = [pairs.pair(f"query {letter}", "a passage", "s") for letter in LETTERS]
    held_out, train = pairs.split(some, 6)
    assert (len(held_out), len(train)) == (6, 20)
    assert pairs.split(some[::-1], 6) == (held_out, train)


# Composed sentences


def wordnet_root(root: Path) -> Path:
    heads = [head for names, _ in WORDNET_LISTS.values() for head in names]
    nouns = [
        f"{i:08} 05 n 01 {head} 0 001 ~ {i + 500:08} n 0000 | x" for i, head in enumerate(heads)
    ]
    nouns += [f"{i + 500:08} 05 n 01 new_{head} 0 000 | x" for i, head in enumerate(heads)]
    index = [f"{head} n 1 1 ~ 1 1 {i:08}  " for i, head in enumerate(heads)]
    index += [f"new_{head} n 1 0 1 1 {i + 500:08}  " for i, head in enumerate(heads)]
    write(root, "usr/share/wordnet/data.noun", "  1 licence\n" + "\n".join(nouns) + "\n")
    write(root, "usr/share/wordnet/index.noun", "  1 licence\n" + "\n".join(index) + "\n")
    counts = "\n".join(f"new_{head}%1:05:00:: 1 9" for head in heads)
    write(root, "usr/share/wordnet/cntlist.rev", counts + "\n")
    return root


def test_composed_sentences_are_distinct_and_the_same_every_time(tmp_path: Path) -> None:
    root = wordnet_root(tmp_path)
    found = list(templates.composed(root, 500))
    assert len(set(found)) == 500
    assert found == list(templates.composed(root, 500))
    assert found != list(templates.composed(root, 500, seed=1))
    assert not [text for text in found if "{" in text or "  " in text or text[0].islower()]
    assert "new placental" in templates.widened(root)["animal"]


@pytest.mark.parametrize(
    ("verb", "third", "progressive"),
    [
        ("play the flute", "plays the flute", "playing the flute"),
        ("cry", "cries", "crying"),
        ("catch a ball", "catches a ball", "catching a ball"),
        ("run", "runs", "running"),
        ("ride a horse", "rides a horse", "riding a horse"),
        ("lie on it", "lies on it", "lying on it"),
        ("sew", "sews", "sewing"),
        ("eat", "eats", "eating"),
        ("mix", "mixes", "mixing"),
    ],
)
def test_verbs(verb: str, third: str, progressive: str) -> None:
    assert templates.third_person(verb) == third
    assert templates.progressive(verb) == progressive


def test_nouns() -> None:
    plurals = [templates.plural(noun) for noun in ("dog", "old woman", "lady", "fox", "sheep")]
    assert plurals == ["dogs", "old women", "ladies", "foxes", "sheep"]
    articles = [templates.article(noun) for noun in ("dog", "egg", "uniform", "umbrella", "user")]
    assert articles == ["a dog", "an egg", "a uniform", "an umbrella", "a user"]


# Packages and the command


def source_archive(folder: Path, name: str, files: dict[str, str]) -> None:
    tree = folder / "tree" / name
    for path, content in files.items():
        write(tree, path, content)
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(tree, name)


def test_a_source_archive_is_found_under_any_spelling(tmp_path: Path) -> None:
    source_archive(tmp_path, "Red_Quiz-1.2", {"a.txt": "text"})
    source_archive(tmp_path, "red_quiz_more-1.3", {"a.txt": "other"})
    found = fetch(Package("red-quiz", "MIT", "sdist", "1.2"), tmp_path, tmp_path / "scratch")
    assert found.version == "1.2"
    assert len(found.sha256) == 64
    assert (found.root / "Red_Quiz-1.2/a.txt").read_text() == "text"
    with pytest.raises(FileNotFoundError, match="no archive of nothing"):
        fetch(Package("nothing", "MIT"), tmp_path, tmp_path / "scratch")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb builds the package")
def test_a_debian_package_is_unpacked(tmp_path: Path) -> None:
    control = (
        "Package: words\nVersion: 1:2-3\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    )
    write(tmp_path, "tree/DEBIAN/control", control)
    write(tmp_path, "tree/usr/share/words", "text")
    file = str(tmp_path / "words_1%3a2-3_all.deb")
    command = ["dpkg-deb", "--root-owner-group", "-b", str(tmp_path / "tree"), file]
    subprocess.run(command, check=True, capture_output=True)
    found = fetch(Package("words", "MIT"), tmp_path, tmp_path / "scratch")
    assert found.version == "1:2-3"
    assert (found.root / "usr/share/words").read_text() == "text"


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


def test_training_and_held_out_documents_share_no_source() -> None:
    train = {row.package for row in PACKAGED.documents}
    assert not train & {row.package for row in PACKAGED.held_out_documents}
    assert len({package.name for package in PACKAGED.packages}) == len(PACKAGED.packages)
