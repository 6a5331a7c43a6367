"""Pairs of query and passage, for contrastive training and for the evaluation of retrieval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from osa.model.pretrained.corpus.cleaning import digest, normalized, squeeze

_SHORTEST_PASSAGE, _LONGEST_PASSAGE = 6, 400
_LONGEST_QUERY = 60
_OPENING = 80


@dataclass(frozen=True)
class Pair:
    """A query, the passage that answers it, and their source."""

    query: str
    passage: str
    source: str


def pair(query: str, passage: str, source: str) -> Pair:
    """A pair on single lines, the passage no longer than 400 words."""
    words = squeeze(passage).split()[:_LONGEST_PASSAGE]
    return Pair(squeeze(query), " ".join(words), source)


def distinct(pairs: Iterable[tuple[Pair, int]], excluded: set[str]) -> Iterator[Pair]:
    """Pairs whose query, passage and beginning of the passage are all new.

    Drops pairs whose passage contains the query literally, pairs whose query has fewer words than
    the number given with it, and excluded texts.
    """
    seen: set[str] = set()
    for item, shortest_query in pairs:
        query, passage = normalized(item.query), normalized(item.passage)
        long_enough = len(passage.split()) >= _SHORTEST_PASSAGE
        if not long_enough or not shortest_query <= len(query.split()) <= _LONGEST_QUERY:
            continue
        identities = {query, passage[:_OPENING]}
        if query in passage or identities & seen or {query, passage} & excluded:
            continue
        seen |= identities
        yield item


def split(pairs: Iterable[Pair], held_out: int) -> tuple[list[Pair], list[Pair]]:
    """The ``held_out`` pairs with the smallest digests, and the others, ordered by digest."""
    ordered = sorted(pairs, key=lambda item: digest(item.query + "\t" + item.passage))
    return ordered[:held_out], ordered[held_out:]
