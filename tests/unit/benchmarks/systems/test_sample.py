"""The sample of texts and pairs that systems are trained and scored on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.systems import sample


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of eight records a file, of which a few are drawn."""
    counts = {"SENTENCES": 4, "DEFINITIONS": 3, "PASSAGES": 2, "HELD_OUT": 2, "PAIRS": 1}
    for name, count in {**counts, "TRAIN_PAIRS": 5}.items():
        monkeypatch.setattr(sample, name, count)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("sentences", "train", "held_out"):
        lines = [f"{name} {place}" for place in range(8)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for name in ("train_pairs", "held_out_pairs"):
        records = [{"query": f"q {n}", "passage": f"{name}\n{n}"} for n in range(8)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(own)}\n" for own in records))
    return folder


def test_the_first_records_of_every_file_are_drawn(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "systems"
    assert sample.main(["--corpus", str(corpus), "--output", str(output)]) == 0
    texts = (output / "texts.txt").read_text().splitlines()
    first = {"sentences": 4, "train": 3, "train_pairs": 2}
    assert set(texts) == {f"{name} {n}" for name, count in first.items() for n in range(count)}
    assert texts == sample.draw(corpus)["texts.txt"]
    assert (output / "held_out.txt").read_text() == "held_out 0\nheld_out 1\n"
    assert len((output / "pairs.jsonl").read_text().splitlines()) == 1
    pairs = (output / "train_pairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["query"] for line in pairs] == [f"q {n}" for n in range(5)]


def test_what_is_no_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    asked = ["--corpus", str(corpus), "--output", str(tmp_path / "systems")]

    def refused() -> bool:
        with pytest.raises(SystemExit):
            sample.main(asked)
        return not (tmp_path / "systems").exists()

    (corpus / "train_pairs.jsonl").write_text('{"query": "q"}\n' * 8)
    assert refused()
    (corpus / "train_pairs.jsonl").write_text('{"query": "q", "passage": "p"}\n')
    assert refused()
    (corpus / "train_pairs.jsonl").unlink()
    assert refused()
