"""Training of tokenizers; the same texts give the same bytes.

Both kinds have the special tokens of BERT with the ids 0 to 4 and put [CLS] and [SEP] around a
text. ``wordpiece`` splits at white space and punctuation and covers the characters of its texts;
``bpe`` works on bytes and covers every text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from osa.model.common.directories import check_file
from osa.model.common.progress import Progress
from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.records.readers import check_format, read_file
from osa.model.records.record import Problem, Record
from osa.model.training.data.report import SHOWN, Report

TokenizerKind = Literal["wordpiece", "bpe"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PREFIX = "##"
"""Prefix of all tokens of a word but the first."""
BATCH = 1000
"""Texts passed to the trainer at once."""
MAX_WORDS = 1_000_000
"""Most different words that are kept before their characters are counted."""


class TextFiles:
    """The texts of files, read again by every iteration; bad records are left out.

    Attributes:
        report: Counts and first problems of the last complete iteration.
    """

    def __init__(self, files: Sequence[Path], column: str, progress: bool = False) -> None:
        """Read ``column`` of ``files`` (see ``readers.read_file``) with a progress bar if asked."""
        self._files, self._progress, self._passes = files, progress, 0
        self._fields = (Field("text", column, "text"),)
        self.report = Report(0, 0, 0, {}, ())

    def check(self) -> None:
        """Check all files before any is read.

        Raises:
            ConfigError: A file does not exist, or has an unknown format.
        """
        for file in self._files:
            check_format(file, self._fields)
            check_file(file)

    def __iter__(self) -> Iterator[str]:
        """Yield the texts, in the order of the files.

        Raises:
            ConfigError: A file cannot be read.
            DataError: A file is damaged, or there is no text.
        """
        self._passes += 1
        label = f"reading, pass {self._passes}"
        with Progress(label, "texts", enabled=self._progress) as progress:
            yield from progress.track(self._read())

    def _read(self) -> Iterator[str]:
        kept, empty, bad, first = 0, 0, Counter[str](), list[str]()
        for file in self._files:
            for item in read_file(file, self._fields):
                if isinstance(item, Record):
                    kept += 1
                    yield item.values["text"]
                elif isinstance(item, Problem):
                    bad[item.kind] += 1
                    first += [str(item)] if len(first) < SHOWN else []
                else:
                    empty += 1
        self.report = Report(kept + bad.total(), kept, empty, dict(bad), tuple(first))
        if not kept:
            raise DataError(f"no text in {', '.join(map(str, self._files))}: {self.report}")


def train_tokenizer(
    texts: Iterable[str],
    kind: TokenizerKind,
    vocab_size: int,
    lowercase: bool,
    min_frequency: int,
    report: Callable[[str], None] = lambda line: None,
) -> Tokenizer:
    """Train a tokenizer.

    Args:
        texts: Iterated twice for ``wordpiece``.
        kind: ``wordpiece`` or ``bpe``.
        vocab_size: Largest number of tokens, special ones included.
        lowercase: Convert to lower case; ``wordpiece`` also drops accents then.
        min_frequency: Least count of a pair of tokens that is merged; ``wordpiece`` also leaves
            out rarer characters.
        report: Called with a message when all texts are read.

    Raises:
        ConfigError: ``vocab_size`` is too small for the alphabet.
    """
    if min_frequency < 1:
        raise ConfigError(f"the smallest frequency must be at least 1, got {min_frequency}")
    train = _train_bpe if kind == "bpe" else _train_wordpiece
    return train(texts, vocab_size, lowercase, min_frequency, report)


def wordpiece(
    vocabulary: dict[str, int],
    lowercase: bool,
    special: Sequence[str] = SPECIAL,
    strip_accents: bool | None = None,
    chinese_characters: bool = True,
) -> Tokenizer:
    """BERT's tokenizer.

    Args:
        vocabulary: Ids by token.
        lowercase: Convert to lower case.
        special: Padding, unknown, start, end and mask; those missing in ``vocabulary`` are left
            out.
        strip_accents: Drop accents; None: if ``lowercase``.
        chinese_characters: Treat every Chinese character as a word.

    Raises:
        ConfigError: The vocabulary has no token for unknown, start or end.
    """
    for name in special[1:4]:
        if name not in vocabulary:
            raise ConfigError(f"the vocabulary has no {name}")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase,
        strip_accents=strip_accents,
        handle_chinese_chars=chinese_characters,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=PREFIX)
    _finish(tokenizer, [name for name in special if name in vocabulary], special[2], special[3])
    return tokenizer


def _train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    lowercase: bool,
    min_frequency: int,
    report: Callable[[str], None],
) -> Tokenizer:
    blank = wordpiece({name: place for place, name in enumerate(SPECIAL)}, lowercase)
    starts, continued = _alphabet(texts, blank, min_frequency)
    # The trainer numbers the pieces of its alphabet in the order of a hash table, which differs
    # from run to run. Named as special tokens they have fixed numbers; the tokenizer that is
    # returned is made of the vocabulary alone and does not know them as special.
    alphabet = [*starts, *(PREFIX + character for character in continued)]
    _check_size(vocab_size, len(SPECIAL) + len(alphabet), f"{len(starts)} characters")
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL, *alphabet],
        initial_alphabet=starts,
        limit_alphabet=len(starts),
        continuing_subword_prefix=PREFIX,
        show_progress=False,
    )
    blank.train_from_iterator(_reported(texts, report), trainer)
    return wordpiece(blank.get_vocab(with_added_tokens=False), lowercase)


def _train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    lowercase: bool,
    min_frequency: int,
    report: Callable[[str], None],
) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _check_size(vocab_size, len(SPECIAL) + len(alphabet), f"{len(alphabet)} bytes")
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_reported(texts, report), trainer)
    _finish(tokenizer, SPECIAL, "[CLS]", "[SEP]")
    return tokenizer


def _finish(tokenizer: Tokenizer, special: Sequence[str], start: str, end: str) -> None:
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    ids = [(name, tokenizer.token_to_id(name)) for name in (start, end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=ids,
    )


def _alphabet(
    texts: Iterable[str], tokenizer: Tokenizer, min_frequency: int
) -> tuple[list[str], list[str]]:
    """Characters that occur often enough, and those of them that occur within a word; sorted."""
    counts, continued, words = Counter[str](), set[str](), Counter[str]()

    def add_up() -> None:
        for word, count in words.items():
            for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(word):
                continued.update(piece[1:])
                for character in piece:
                    counts[character] += count
        words.clear()

    for text in texts:
        words.update(tokenizer.normalizer.normalize_str(text).split())
        if len(words) > MAX_WORDS:
            add_up()
    add_up()
    kept = sorted(character for character, count in counts.items() if count >= min_frequency)
    return kept, sorted(continued.intersection(kept))


def _check_size(vocab_size: int, least: int, alphabet: str) -> None:
    if vocab_size < least:
        raise ConfigError(
            f"a vocabulary of {vocab_size} is too small: the alphabet of {alphabet} and the "
            f"special tokens alone need {least}; raise --vocab-size, or --min-frequency"
        )


def _reported(texts: Iterable[str], report: Callable[[str], None]) -> Iterator[list[str]]:
    """Batches for a trainer, and a message before the silent rest of its work."""
    yield from batches(texts)
    report("choosing the vocabulary")


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of up to ``BATCH`` texts."""
    source = iter(texts)
    while batch := list(itertools.islice(source, BATCH)):
        yield batch
