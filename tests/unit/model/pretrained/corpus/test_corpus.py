"""The corpus: cleaning, held-out texts, and where archives are found."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from osa.model.pretrained.corpus import documents, pairs, templates
from osa.model.pretrained.corpus.catalogue import PACKAGED
from osa.model.pretrained.corpus.cleaning import clean, is_text, normalized
from osa.model.pretrained.corpus.packages import Package, fetch
from osa.model.pretrained.corpus.scenes import WORDNET_LISTS
from tests.unit.model.pretrained.corpus.source_archives import (
    LETTERS,
    long_page,
    source_archive,
    write,
)

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


def test_a_source_archive_is_found_under_any_spelling(tmp_path: Path) -> None:
    source_archive(tmp_path, "Red_Quiz-1.2", {"a.txt": "text"})
    source_archive(tmp_path, "red_quiz_more-1.3", {"a.txt": "other"})
    found = fetch(Package("red-quiz", "MIT", "sdist", "1.2"), tmp_path, tmp_path / "scratch")
    assert found.version == "1.2"
    assert len(found.sha256) == 64
    assert (found.root / "Red_Quiz-1.2/a.txt").read_text() == "text"
    with pytest.raises(FileNotFoundError, match="no archive of nothing"):
        fetch(Package("nothing", "MIT"), tmp_path, tmp_path / "scratch")


@pytest.mark.parametrize("outside", [True, False], ids=["leaves its directory", "is no archive"])
def test_a_source_archive_that_cannot_be_unpacked_is_refused(tmp_path: Path, outside: bool) -> None:
    archive = tmp_path / "quiz-1.tar.gz"
    write(tmp_path, "quiz", "text")
    if outside:
        with tarfile.open(archive, "w:gz") as made:
            made.add(tmp_path / "quiz", "../../outside")
    else:
        archive.write_bytes(b"no archive")
    with pytest.raises(subprocess.CalledProcessError, match=r"'tar', .* non-zero exit status"):
        fetch(Package("quiz", "MIT", "sdist", "1"), tmp_path, tmp_path / "scratch")
    assert not list(tmp_path.rglob("outside"))


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


def test_training_and_held_out_documents_share_no_source() -> None:
    train = {row.package for row in PACKAGED.documents}
    assert not train & {row.package for row in PACKAGED.held_out_documents}
    assert len({package.name for package in PACKAGED.packages}) == len(PACKAGED.packages)
