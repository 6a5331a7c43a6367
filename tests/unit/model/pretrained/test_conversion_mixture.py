"""The mixture of texts of the packaged models: the same from the same corpus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from osa.model.pretrained import conversion_mixture
from osa.model.pretrained.conversion_mixture import main
from osa.model.pretrained.corpus.cleaning import digest

LONG = "A passage with more letters than a sentence has. " * 5


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    made = tmp_path / "corpus"
    made.mkdir()
    (made / "sentences.txt").write_text("one\ntwo\nthree\n")
    (made / "train.txt").write_text("four\none\n")
    pages = [{"title": "t", "text": f"page {number}\nof a manual"} for number in range(2)]
    (made / "documents.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    pairs = [{"query": "q", "passage": passage} for passage in ("short", LONG, LONG + "more")]
    (made / "train_pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return made


def test_it_takes_the_first_of_each_kind_and_orders_them_by_digest(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion_mixture, "SENTENCES", 2)
    monkeypatch.setattr(conversion_mixture, "PASSAGES", 1)
    output = tmp_path / "mixture.jsonl"
    assert main(["--corpus", str(corpus), "--output", str(output)]) == 0
    found = [json.loads(line)["text"] for line in output.read_text().splitlines()]
    pages = ["page 0\nof a manual", "page 1\nof a manual"]
    assert found == sorted(["one", "two", "four", *pages, LONG], key=digest)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("documents.jsonl", None, "documents.jsonl cannot be read: No such file"),
        ("documents.jsonl", "[1]\n", "is no corpus"),
        ("train_pairs.jsonl", '{"query": "q"}\n', "is no corpus: 'passage'"),
        ("train_pairs.jsonl", "not JSON\n", "is no corpus"),
    ],
)
def test_what_is_no_corpus_ends_in_a_line(
    corpus: Path,
    file: str,
    content: str | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is None:
        (corpus / file).unlink()
    else:
        (corpus / file).write_text(content)
    with pytest.raises(SystemExit):
        main(["--corpus", str(corpus), "--output", str(corpus / "mixture.jsonl")])
    assert message in capsys.readouterr().err
    assert not (corpus / "mixture.jsonl").exists()
