"""Text preparation from unpacked packages: parsing, cleaning, exclusion."""

from __future__ import annotations

import gzip
from pathlib import Path

from osa.model.training.prepare_text import (
    clean,
    foldoc,
    fortunes,
    gcide,
    is_text,
    normalized,
    wordnet,
)


def write(root: Path, name: str, content: str, compress: bool = False) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode()
    file.write_bytes(gzip.compress(raw) if compress else raw)


def test_wordnet_gives_glosses_and_examples(tmp_path: Path) -> None:
    line = '001 03 n 01 x 0 000 | an entity that exists; a thing; "the thing was seen twice"  '
    write(tmp_path, "usr/share/wordnet/data.noun", f"  1 a licence line | x\n{line}\n")
    found = list(wordnet(tmp_path))
    assert found == ["the thing was seen twice", "an entity that exists", "a thing"]


def test_gcide_gives_definitions_without_markup(tmp_path: Path) -> None:
    entry = (
        '\nCoagulate \\Co*ag"u*late\\, v. i.\n   To undergo {coagulation} slowly. --Boyle.\n'
        "   [1913 Webster]\n"
    )
    write(tmp_path, "usr/share/dictd/gcide.dict.dz", entry, compress=True)
    assert "To undergo coagulation slowly." in [text.strip() for text in gcide(tmp_path)]


def test_foldoc_and_fortunes_give_sentences(tmp_path: Path) -> None:
    write(tmp_path, "usr/share/dictd/foldoc.dict.dz", "\nbit\n\n   <unit> A {binary} digit is "
          "small. It is zero.\n", compress=True)  # fmt: skip
    assert "It is zero." in list(foldoc(tmp_path))
    write(tmp_path, "usr/share/games/fortunes/wise", "Be kind to all.\n\t\t-- Anon\n%\nGo on.\n")
    assert next(iter(fortunes(tmp_path))) == "Be kind to all."


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
