"""Long documents and the queries taken from them."""

from __future__ import annotations

from benchmarks.quality.long_documents import CHUNK_TOKENS, Page, haystack
from tests.unit.benchmarks.quality.conftest import count, page


def test_a_query_is_taken_out_of_the_second_half() -> None:
    pages = [page(seed) for seed in range(4)]
    made = haystack(pages, 600, count, documents=3, needles=2)
    assert len(made.documents) == 3
    assert len(made.needles) == 6
    sources = {text: " ".join(item.paragraphs) for item in pages for text in item.paragraphs}
    for needle, place in zip(made.needles, made.needle_chunks, strict=True):
        chunks = made.documents[needle.document]
        assert needle.query not in " ".join(chunks)
        (paragraph,) = [text for text in sources if text.startswith(needle.query)]
        rest = paragraph.removeprefix(needle.query).strip()
        assert rest[:40] in chunks[needle.chunk]
        assert sources[paragraph].index(paragraph) >= 0.4 * len(sources[paragraph])
        assert made.chunk_documents[place] == needle.document
    again = haystack(pages[::-1], 600, count, documents=3, needles=2)
    assert again == made, "the order of the file does not matter where nothing is joined"


def test_chunks_and_documents_keep_to_their_lengths() -> None:
    long, short = page(1, paragraphs=40), [page(seed, paragraphs=3) for seed in range(2, 9)]
    line = Page("t", (" ".join(page(9).paragraphs),))
    made = haystack([long, *short, line], 600, count, documents=9, needles=1)
    totals = [sum(count(chunks)) for chunks in made.documents]
    assert len(totals) == 3, "short pages of a source are laid end to end"
    assert all(0.7 * 600 <= total <= 600 for total in totals)
    sizes = [size for chunks in made.documents for size in count(chunks)]
    assert max(sizes) <= CHUNK_TOKENS
    assert not haystack([page(1, paragraphs=2)], 600, count, 9, 1).documents
