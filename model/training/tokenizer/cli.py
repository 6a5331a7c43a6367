"""``osa tokenizer``: train a tokenizer on texts, or check and convert an existing one."""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osa.model.common.directories import check_parent
from osa.model.common.progress import say
from osa.model.common.requirements import require
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from osa.model.training.tokenizer.convert import Measurement

KINDS = ("wordpiece", "bpe")
DEFAULTS = {"kind": "wordpiece", "vocab_size": 30522, "min_frequency": 2}
TRAINING = (*DEFAULTS, "lowercase")
"""Options of the training."""
MEASURED = 100_000
"""Most texts that are measured, evenly spread over the files."""
SHOWN = 100
"""Most characters of a printed example."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``osa tokenizer``."""
    parser.add_argument(
        "--files",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="texts: .txt, .jsonl (either with .gz), .parquet or .arrow",
    )
    parser.add_argument("--output", type=Path, required=True, help="tokenizer.json to write")
    parser.add_argument("--column", default="text", help="column of the texts (default: text)")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE_OR_DIR",
        help="take over a tokenizer.json, or a vocab.txt of BERT; --files are then only measured",
    )
    parser.add_argument("--kind", choices=KINDS, help="default: wordpiece; bpe works on bytes")
    parser.add_argument("--vocab-size", type=int, help="most tokens (default: 30522)")
    parser.add_argument("--min-frequency", type=int, help="of a pair to be joined (default: 2)")
    parser.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        help="take capitals for small letters (default: with wordpiece)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")


def run(options: argparse.Namespace) -> int:
    """Train or convert a tokenizer, measure it and write it; returns the exit code.

    Raises:
        OsaError: The options, the files or the tokenizer are unusable.
    """
    _check(options)
    require("osa tokenizer", "train", "pyarrow")
    from osa.model.training.tokenizer.convert import load_existing, measure, remarks
    from osa.model.training.tokenizer.train import TextFiles, train_tokenizer

    texts = TextFiles(options.files, options.column, progress=True)
    texts.check()
    given = {name: getattr(options, name) for name in TRAINING}
    if options.source is not None:
        tokenizer = load_existing(options.source)
    else:
        values: dict[str, Any] = {
            **DEFAULTS,
            **{name: x for name, x in given.items() if x is not None},
        }
        values.setdefault("lowercase", values["kind"] == "wordpiece")
        tokenizer = train_tokenizer(texts, **values, report=say)
    lines = [f"vocabulary      {_size(tokenizer)} tokens"]
    lines += [f"note            {remark}" for remark in remarks(tokenizer)]
    if options.files:
        total = texts.report.kept or sum(1 for _ in texts)
        step = -(-total // MEASURED)
        lines += _lines(measure(tokenizer, itertools.islice(texts, 0, None, step)))
        if texts.report.bad:
            say(f"osa: {texts.report}")
    _write(options.output, tokenizer.to_str(pretty=True))
    print("\n".join([f"wrote {options.output}", *lines]))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse invalid options before anything is read."""
    if options.output.is_dir():
        raise ConfigError(f"{options.output} is a directory; name the file: .../tokenizer.json")
    if options.output.exists() and not options.force:
        raise ConfigError(f"{options.output} exists: pass --force to replace it")
    check_parent(options.output)
    given = [name for name in TRAINING if getattr(options, name) is not None]
    if options.source is not None and given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"--from takes a tokenizer as it is, without {names}")
    if options.min_frequency is not None and options.min_frequency < 1:
        got = options.min_frequency
        raise ConfigError(f"the smallest frequency must be at least 1, got {got}")
    if options.source is not None and not options.source.exists():
        raise ConfigError(f"cannot take over {options.source}: there is nothing of that name")
    if options.source is None and not options.files:
        raise ConfigError("pass --files to train on, or --from with a tokenizer to take over")


def _size(tokenizer: Tokenizer) -> int:
    size: int = tokenizer.get_vocab_size(with_added_tokens=True)
    return size


def _lines(found: Measurement) -> list[str]:
    return [
        f"measured on     {found.texts} texts, {found.words} words",
        f"tokens a word   {found.tokens / max(found.words, 1):.3f}",
        f"unknown tokens  {found.unknown / max(found.tokens, 1):.3%}",
        *(
            f"  {_cut(text)!r}\n    -> {_cut(' '.join(tokens))}\n    -> {_cut(decoded)!r}"
            for text, tokens, decoded in found.examples
        ),
    ]


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _write(path: Path, content: str) -> None:
    """Write a file atomically."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
