"""Long texts cut into segments of whole sentences.

If every sentence of a text fits, its segments are the chunks that the server cuts by sentences of
the same size. A longer sentence is cut between words, so that a segment tokenized alone keeps its
tokens; the server cuts it between tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from osa.model.common.sentences import sentence_bounds
from osa.model.tokenization import TextTokenizer


def segment(
    text: str, offsets: Sequence[tuple[int, int]], max_tokens: int
) -> Iterator[tuple[int, int]]:
    """Cut a text at sentence ends, else between words, else between tokens.

    Args:
        text: The text.
        offsets: Characters (start, stop) of each token, without special tokens [n].
        max_tokens: Longest segment [tokens].

    Yields:
        Tokens (first, stop) of each segment; together all tokens.
    """
    bounds = set(sentence_bounds(text, offsets))
    first = sentence = word = 0  # start of the segment; latest sentence and word boundaries
    for place in range(1, len(offsets) + 1):
        if place in bounds:
            sentence = place
        elif offsets[place][0] > offsets[place - 1][1]:
            word = place
        if place == len(offsets) or place - first == max_tokens:
            cut = next((bound for bound in (sentence, word) if bound > first), place)
            yield first, cut
            first = cut


def segment_texts(
    tokenizer: TextTokenizer, texts: Sequence[str], max_tokens: int
) -> list[list[str]]:
    """Segments of each text, of at most ``max_tokens``; a text without tokens is one segment."""
    found = []
    for text, offsets in zip(texts, tokenizer.offsets(texts), strict=True):
        parts = list(segment(text, offsets, max_tokens))
        if len(parts) <= 1:
            found.append([text])
        else:
            found.append([text[offsets[first][0] : offsets[stop - 1][1]] for first, stop in parts])
    return found
