"""``osa convert``: from a softmax encoder to one that is linear in length."""

from __future__ import annotations

import argparse
from pathlib import Path

from osa.model.common.directories import WEIGHT_TYPES


def _numbers(text: str) -> tuple[int, ...]:
    """Comma-separated whole numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"wanted are whole numbers with commas between them, got {text!r}"
        ) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``osa convert``."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="directory of transformers or sentence-transformers, hf:ORG/NAME[@REVISION], or "
        "package:NAME/FOLDER of an installed package",
    )
    parser.add_argument("--output", type=Path, required=True, help="checkpoint directory to write")
    parser.add_argument(
        "--texts",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="texts like those that will be embedded: .txt, .jsonl, .csv, .parquet (column text); "
        "by default a packaged mixture of sentences, definitions and pages of manuals",
    )
    parser.add_argument("--column", default="text", help="of the texts in tables")
    parser.add_argument(
        "--pair-column",
        default="",
        metavar="COLUMN",
        help="of the second texts, where a reranker or a classifier of pairs is to learn on pairs; "
        "by default a reranker's are made of sentences and passages of the texts",
    )
    parser.add_argument(
        "--layers",
        type=_numbers,
        metavar="I,J,...",
        help="layers of the model to keep, from 0; by default all",
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="about how long to train (default: 30)"
    )
    parser.add_argument(
        "--steps",
        type=_numbers,
        metavar="A,B[,C]",
        help="updates of the stages (attention, vectors, long texts) instead of --minutes: the "
        "same weights on the same processor",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=512, help="longest text to train on (default: 512)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        default=32768,
        help="longest text that the result reads (default: 32768)",
    )
    parser.add_argument(
        "--batch-tokens", type=int, default=3072, help="tokens of an update (default: 3072)"
    )
    parser.add_argument(
        "--chunk-tokens",
        type=int,
        default=4096,
        help="most tokens whose activations are kept at once while vectors of pieces are matched; "
        "of long texts those of a batch are (default: 4096)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order of the texts")
    parser.add_argument(
        "--sts",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE.tsv",
        help="pairs to evaluate on: score, text, text, separated by tabs",
    )
    parser.add_argument(
        "--matryoshka",
        type=_numbers,
        default=(),
        metavar="E,K,...",
        help="turn vectors so that their first K numbers may be taken alone, such as 384,256,128: "
        "cosines stay, but an index of the model's own vectors is of no use any more",
    )
    parser.add_argument(
        "--controls",
        action="store_true",
        help="also convert without OSA, and without stage one: each takes as long again",
    )
    parser.add_argument(
        "--dtype", choices=WEIGHT_TYPES, default="float16", help="of the stored weights"
    )
    parser.add_argument("--resume", action="store_true", help="resume from the saved state")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(options: argparse.Namespace) -> int:
    """Convert; returns the exit code.

    Raises:
        OsaError: The request is refused, or the conversion fails.
    """
    from osa.model.conversion.request import read_request

    request = read_request(options)
    from osa.model.conversion.run import convert

    return convert(request)
