"""Retrieval quality of models: short passages, and long documents with their chunks.

    python -m benchmarks.quality.retrieval --data data/text [--model NAME=DIR ...] [--teacher]

``--data`` is the output of ``python -m osa.model.pretrained.corpus``; its held-out pairs and
documents are used, which no model was trained on. The packaged model is always measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common.machine import read_machine
from benchmarks.common.tables import MISSING, heading, row
from benchmarks.quality.chunk_encoders import Encode, Vectors, model_strategies, teacher_strategies
from benchmarks.quality.long_documents import Haystack, Page, haystack
from benchmarks.quality.sts import teacher_encoder
from osa.model import EmbeddingModel
from osa.model.documents.limits import VECTORS

DEPTH = 10
TEACHER = "teacher (all-MiniLM-L6-v2)"
FACTS = ("processor", "device", "threads", "torch", "commit", "date")
SHORT = """\
Query to passage among all {pairs} passages: one-line descriptions of Debian's packages to their
descriptions, names of recipes to their steps; no passage holds its query word for word."""
LONG = """\
Held-out pages (PostgreSQL's and Debian's manuals, Wikipedia, novels), truncated or concatenated. A
query is the first sentence of a paragraph in the second half of a document, removed from it.
"Document": the right one among all, by its one vector, by its best chunk, or by the best of a few
vectors, which groups of its chunks have. "Chunk": the one that the query was taken from, among
those of its document, and among all. Chunks have up to 200 tokens; late chunks are means of token
ranges of the encoded whole."""


@dataclass(frozen=True)
class Ranking:
    """Retrieval metrics of queries with one relevant item each, times 100."""

    recall_at_1: float
    recall_at_10: float
    mrr_at_10: float
    ndcg_at_10: float

    def cells(self) -> list[str]:
        """All metrics as cells of a table."""
        return [f"{value:.1f}" for value in vars(self).values()]


def ranking(ranks: Tensor) -> Ranking:
    """Metrics of ranks [Q]; rank 0 is the best."""
    found = ranks < DEPTH
    places = ranks.double() + 1.0
    metrics = (ranks == 0, found, found / places, found / torch.log2(places + 1.0))
    return Ranking(*(100.0 * float(metric.double().mean()) for metric in metrics))


def ranks_of(queries: Tensor, candidates: Tensor, own: Sequence[int]) -> Tensor:
    """Number of candidates that are more similar to each query than the relevant one [Q].

    Args:
        queries: Unit vectors [Q, E].
        candidates: Unit vectors [C, E].
        own: Index of the relevant candidate of each query.
    """
    ranks = []
    relevant = torch.tensor(own)
    for start in range(0, len(queries), 512):
        scores = queries[start : start + 512] @ candidates.T
        best = scores.gather(1, relevant[start : start + 512, None])
        ranks.append((scores > best).sum(1))
    return torch.cat(ranks)


def short_row(name: str, encode: Encode, pairs: Sequence[Mapping[str, str]]) -> str:
    """A row of the table of short passages."""
    vectors = F.normalize(encode([pair["query"] for pair in pairs]), dim=-1)
    passages = F.normalize(encode([pair["passage"] for pair in pairs]), dim=-1)
    result = ranking(ranks_of(vectors, passages, range(len(pairs))))
    return row([name, *result.cells()])


def long_rows(
    name: str, encode: Encode, strategies: Iterable[Vectors], stack: Haystack
) -> Iterator[str]:
    """Rows of the table of long documents, one per strategy.

    Args:
        name: Name of the model.
        encode: From texts to vectors [n, E].
        strategies: Vectors of the documents and their chunks, by strategy.
        stack: The documents and the queries.
    """
    queries = F.normalize(encode([needle.query for needle in stack.needles]), dim=-1)
    own = [needle.document for needle in stack.needles]
    chunk_documents = torch.tensor(stack.chunk_documents)
    for vectors in strategies:
        cells = [f"{stack.tokens}", name, vectors.strategy]
        if vectors.documents is not None:
            result = ranking(ranks_of(queries, vectors.documents, own))
            yield row([*cells, *_recall_and_mrr(result), *[MISSING] * 4])
        if vectors.groups:
            owners = torch.tensor([row for row, few in enumerate(vectors.groups) for _ in few])
            best = best_of(queries @ torch.cat(list(vectors.groups)).T, owners)
            yield row([*cells, *_recall_and_mrr(_found(best, own)), *[MISSING] * 4])
        if vectors.chunks is not None:
            scores = queries @ vectors.chunks.T
            relevant = torch.tensor(stack.needle_chunks)[:, None]
            right = scores.gather(1, relevant)
            inside = chunk_documents[None] == torch.tensor(own)[:, None]
            found = _found(best_of(scores, chunk_documents), own)
            within = ranking(((scores > right) & inside).sum(1))
            among = ranking((scores > right).sum(1))
            results = (found, within, among)
            yield row([*cells, *(cell for item in results for cell in _recall_and_mrr(item))])


def best_of(scores: Tensor, owners: Tensor) -> Tensor:
    """The best score of each document [Q, D], from scores of vectors [Q, V] and whose they are."""
    best = torch.full((len(scores), int(owners.max()) + 1), -2.0)
    return best.scatter_reduce(1, owners.expand(len(scores), -1), scores, "amax")


def _found(best: Tensor, own: Sequence[int]) -> Ranking:
    """How well queries find their documents by scores [Q, D]."""
    mine = best.gather(1, torch.tensor(own)[:, None])
    return ranking((best > mine).sum(1))


def read_pages(file: Path) -> list[Page]:
    """Pages of a ``.jsonl`` file."""
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [Page(record["source"], tuple(record["text"].split("\n"))) for record in records]


def report(options: argparse.Namespace, show: Callable[[str], None]) -> None:
    """Measure all models, and pass the report to ``show`` in lines."""
    named: list[tuple[str, str | None]] = [("packaged", None)]
    named += [tuple(pair.split("=", 1)) for pair in options.model]
    models = {name: EmbeddingModel.from_pretrained(directory) for name, directory in named}
    teacher = teacher_encoder() if options.teacher else None
    facts = read_machine("cpu")
    show("# Retrieval\n")
    show(f"    {command(options)}\n")
    show(", ".join(f"{name} {facts[name]}" for name in FACTS) + ", float32.\n")
    text = (options.data / "held_out_pairs.jsonl").read_text(encoding="utf-8")
    pairs = [json.loads(line) for line in text.splitlines()[: options.pairs]]
    show(f"## Short passages\n\n{SHORT.format(pairs=len(pairs))}\n")
    show(heading(["model", "recall@1", "recall@10", "MRR@10", "nDCG@10"]))
    for name, model in models.items():
        show(short_row(name, model.encode, pairs))
    if teacher is not None:
        show(short_row(TEACHER, teacher, pairs))
    show(f"\n## Long documents\n\n{LONG}\n")
    pages = read_pages(options.data / "held_out_documents.jsonl")
    tokenizer = models["packaged"].tokenizer
    if tokenizer is None:
        raise ValueError("the packaged model has a tokenizer")
    stacks = [
        haystack(
            pages,
            tokens,
            lambda texts: [len(ids) for ids in tokenizer.encode_parts(texts)],
            options.documents,
            options.needles,
        )
        for tokens in options.lengths
    ]
    for stack in stacks:
        show(
            f"- {stack.tokens} tokens: {len(stack.documents)} documents, "
            f"{len(stack.chunk_documents)} chunks, {len(stack.needles)} queries"
        )
    columns = ["document recall@1", "MRR@10", "chunk in document recall@1", "MRR@10"]
    columns += ["chunk among all recall@1", "MRR@10"]
    show("\n" + heading(["tokens", "model", "by", *columns]))
    for stack in filter(lambda stack: stack.needles, stacks):
        for name, model in models.items():
            strategies = model_strategies(model, stack.documents, options.vectors)
            for line in long_rows(name, model.encode, strategies, stack):
                show(line)
        if teacher is not None:
            strategies = teacher_strategies(teacher, stack.documents, options.vectors)
            for line in long_rows(TEACHER, teacher, strategies, stack):
                show(line)


def command(options: argparse.Namespace) -> str:
    """The command that reproduces the report, without folder names."""
    parts = ["python -m benchmarks.quality.retrieval --data DIR"]
    parts += [f"--model {pair.split('=', 1)[0]}=DIR" for pair in options.model]
    parts += ["--teacher"] if options.teacher else []
    parts += [f"--{name} {getattr(options, name)}" for name in ("pairs", "documents", "needles")]
    parts += ["--vectors", *map(str, options.vectors)]
    return " ".join([*parts, "--lengths", *map(str, options.lengths)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the report; returns the exit code."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="retrieval", description=description)
    parser.add_argument("--data", type=Path, required=True, help="output of the corpus command")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--output", type=Path, help="write the report there too")
    parser.add_argument("--pairs", type=int, default=5000, help="largest number of pairs")
    parser.add_argument("--documents", type=int, default=100, help="largest number per length")
    parser.add_argument(
        "--needles", type=int, default=4, help="largest number of queries per document"
    )
    parser.add_argument(
        "--vectors",
        type=int,
        nargs="+",
        default=[VECTORS],
        help="how many vectors a document has where its chunks are grouped",
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192, 32768])
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def show(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    report(options, show)
    if options.output is not None:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _recall_and_mrr(result: Ranking) -> list[str]:
    cells = result.cells()
    return [cells[0], cells[2]]


if __name__ == "__main__":
    raise SystemExit(main())
