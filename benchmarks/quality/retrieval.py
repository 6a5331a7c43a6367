"""Search with models, side by side: short passages, and long documents with their chunks.

    python -m benchmarks.quality.retrieval --data data/text [--model NAME=DIR ...] [--teacher]

``--data`` is what ``python -m osa.model.pretrained.corpus`` wrote; its held-out pairs and documents
are used, which nothing was trained on. The packaged model is always measured.
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

from benchmarks.kernels.machine import read_machine
from benchmarks.quality.chunk_encoders import Encode, Vectors, model_ways, teacher_ways
from benchmarks.quality.long_documents import Haystack, Page, haystack
from benchmarks.quality.sts import teacher_encoder
from osa.model import EmbeddingModel

DEPTH = 10
TEACHER = "teacher (all-MiniLM-L6-v2)"
FACTS = ("processor", "device", "threads", "torch", "commit", "date")
SHORT = """\
Query to passage among all {pairs} passages: one-line descriptions of Debian's packages to their
descriptions, names of recipes to their steps; no passage holds its query word for word."""
LONG = """\
Held-out pages (PostgreSQL's and Debian's manuals, Wikipedia, novels), cut or laid end to end. A
query is the first sentence of a paragraph in the second half of a document, removed from it.
"Document": the right one among all, by its one vector or by its best chunk. "Chunk": the one that
the query was taken from, among those of its document, and among all. Chunks have up to 200 tokens;
late chunks are means of token ranges of the encoded whole."""


@dataclass(frozen=True)
class Ranking:
    """What ranks say, each with one right answer; times 100."""

    recall_at_1: float
    recall_at_10: float
    mrr_at_10: float
    ndcg_at_10: float

    def cells(self) -> list[str]:
        """The numbers as cells of a table."""
        return [f"{value:.1f}" for value in vars(self).values()]


def ranking(ranks: Tensor) -> Ranking:
    """Measures of ranks, where 0 is the best."""
    found = ranks < DEPTH
    places = ranks.double() + 1.0
    measures = (ranks == 0, found, found / places, found / torch.log2(places + 1.0))
    return Ranking(*(100.0 * float(measure.double().mean()) for measure in measures))


def ranks_of(queries: Tensor, candidates: Tensor, own: Sequence[int]) -> Tensor:
    """How many candidates are nearer to each query than its own."""
    ranks = []
    rows = torch.tensor(own)
    for start in range(0, len(queries), 512):
        scores = queries[start : start + 512] @ candidates.T
        best = scores.gather(1, rows[start : start + 512, None])
        ranks.append((scores > best).sum(1))
    return torch.cat(ranks)


def short_row(name: str, encode: Encode, pairs: Sequence[Mapping[str, str]]) -> str:
    """A line of the table of short passages."""
    vectors = F.normalize(encode([pair["query"] for pair in pairs]), dim=-1)
    passages = F.normalize(encode([pair["passage"] for pair in pairs]), dim=-1)
    result = ranking(ranks_of(vectors, passages, range(len(pairs))))
    return _line([name, *result.cells()])


def long_rows(name: str, encode: Encode, ways: Iterable[Vectors], stack: Haystack) -> Iterator[str]:
    """Lines of the table of long documents, one a way."""
    queries = F.normalize(encode([needle.query for needle in stack.needles]), dim=-1)
    own = [needle.document for needle in stack.needles]
    owners = torch.tensor(stack.owners)
    for vectors in ways:
        cells = [f"{stack.tokens}", name, vectors.way]
        if vectors.documents is not None:
            result = ranking(ranks_of(queries, vectors.documents, own))
            yield _line([*cells, *_first_and_mean(result), "-", "-", "-", "-"])
        if vectors.chunks is not None:
            scores = queries @ vectors.chunks.T
            place = torch.tensor(stack.places)[:, None]
            right = scores.gather(1, place)
            inside = owners[None] == torch.tensor(own)[:, None]
            best = torch.full((len(queries), len(stack.documents)), -2.0)
            best = best.scatter_reduce(1, owners.expand(len(queries), -1), scores, "amax")
            mine = best.gather(1, torch.tensor(own)[:, None])
            found = ranking((best > mine).sum(1))
            within = ranking(((scores > right) & inside).sum(1))
            among = ranking((scores > right).sum(1))
            results = (found, within, among)
            yield _line([*cells, *(cell for item in results for cell in _first_and_mean(item))])


def read_pages(file: Path) -> list[Page]:
    """Documents of a ``.jsonl`` file."""
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [Page(record["source"], tuple(record["text"].split("\n"))) for record in records]


def report(options: argparse.Namespace, show: Callable[[str], None]) -> None:
    """Measure everything, and hand the report over line by line."""
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
    show(_heading(["model", "recall@1", "recall@10", "MRR@10", "nDCG@10"]))
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
            f"{len(stack.owners)} chunks, {len(stack.needles)} queries"
        )
    columns = ["document recall@1", "MRR@10", "chunk in document recall@1", "MRR@10"]
    columns += ["chunk among all recall@1", "MRR@10"]
    show("\n" + _heading(["tokens", "model", "by", *columns]))
    for stack in filter(lambda stack: stack.needles, stacks):
        for name, model in models.items():
            for line in long_rows(name, model.encode, model_ways(model, stack.documents), stack):
                show(line)
        if teacher is not None:
            ways = teacher_ways(teacher, stack.documents)
            for line in long_rows(TEACHER, teacher, ways, stack):
                show(line)


def command(options: argparse.Namespace) -> str:
    """The command that repeats the report, without the names of folders."""
    parts = ["python -m benchmarks.quality.retrieval --data DIR"]
    parts += [f"--model {pair.split('=', 1)[0]}=DIR" for pair in options.model]
    parts += ["--teacher"] if options.teacher else []
    parts += [f"--{name} {getattr(options, name)}" for name in ("pairs", "documents", "needles")]
    return " ".join([*parts, "--lengths", *map(str, options.lengths)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; returns the exit code."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="retrieval", description=description)
    parser.add_argument("--data", type=Path, required=True, help="what prepare wrote")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--output", type=Path, help="a file for the report")
    parser.add_argument("--pairs", type=int, default=5000, help="the most pairs")
    parser.add_argument("--documents", type=int, default=100, help="the most of a length")
    parser.add_argument("--needles", type=int, default=4, help="the most queries a document")
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


def _first_and_mean(result: Ranking) -> list[str]:
    cells = result.cells()
    return [cells[0], cells[2]]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _heading(cells: Sequence[str]) -> str:
    return _line(cells) + "\n" + "|---" * len(cells) + "|"


if __name__ == "__main__":
    raise SystemExit(main())
