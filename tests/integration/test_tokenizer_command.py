"""``osa tokenizer``: training, conversion, statistics, refusals; a model uses the result."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models

from osa.model import EmbeddingModel, EncoderConfig
from osa.model.tokenization import TextTokenizer
from osa.service.cli import main
from tests.conftest import PATIENCE_S

SUBJECTS = ["A cat", "The old dog", "My neighbour", "Zoë", "The teacher", "One engineer"]
VERBS = ["eats", "paints", "repairs", "watches", "describes", "forgets", "buys", "carries"]
OBJECTS = ["an apple.", "the red car!", "a long letter", "two windows", "the broken clock (7)"]
LINES = [f"{s} {v} {o}" for s in SUBJECTS for v in VERBS for o in OBJECTS]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = pytest.mark.parametrize("kind", ["wordpiece", "bpe"])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(LINES))
    return file


def arguments(texts: Path, output: Path, *more: str, vocab_size: int = 400) -> list[str]:
    size = ["--vocab-size", str(vocab_size)]
    return ["tokenizer", "--files", str(texts), "--output", str(output), *size, *more]


def trained(texts: Path, kind: str, *more: str) -> Path:
    output = texts.parent / f"{kind}.json"
    assert main(arguments(texts, output, "--kind", kind, "--force", *more)) == 0
    return output


@KINDS
def test_a_trained_tokenizer_has_the_size_and_the_special_tokens(texts: Path, kind: str) -> None:
    tokenizer = Tokenizer.from_file(str(trained(texts, kind)))
    assert [tokenizer.token_to_id(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) <= 400
    assert {"wordpiece": "##", "bpe": "Ġ"}[kind] in "".join(vocabulary)
    added = json.loads(tokenizer.to_str())["added_tokens"]
    assert [token["content"] for token in added] == SPECIAL


@KINDS
def test_texts_are_framed_and_a_mask_is_one_token(texts: Path, kind: str) -> None:
    tokenizer = TextTokenizer.from_file(trained(texts, kind))
    assert tokenizer.num_special_tokens == 2
    plain, masked, empty = (
        item.ids
        for item in tokenizer.encode(["the old dog", "the [MASK] dog", ""], parse_special=True)
    )
    assert plain[0] == masked[0] == 2
    assert plain[-1] == masked[-1] == 3
    assert masked.count(4) == 1
    assert 4 not in plain
    assert empty == [2, 3]
    (cut,) = tokenizer.encode(["the old dog paints a long letter"], max_length=4)
    assert (cut.ids[0], cut.ids[-1], len(cut.ids)) == (2, 3, 4)


@KINDS
def test_a_model_embeds_with_it(texts: Path, tmp_path: Path, kind: str) -> None:
    tokenizer = TextTokenizer.from_file(trained(texts, kind))
    config = EncoderConfig.from_dict(
        {"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "num_layers": 1, "num_heads": 2,
         "ffn_size": 32, "max_seq_len": 64, "matryoshka_dims": []}
    )  # fmt: skip
    EmbeddingModel(config, tokenizer, torch.Generator().manual_seed(0)).save_pretrained(
        tmp_path / "model"
    )
    model = EmbeddingModel.from_pretrained(tmp_path / "model")
    vectors = model.encode(["The old dog eats.", "Unseen: ☃ 漢字"])
    assert vectors.shape == (2, 16)
    assert bool(torch.as_tensor(vectors).isfinite().all())


def test_wordpiece_keeps_words_and_bpe_keeps_every_byte(texts: Path) -> None:
    wordpiece = Tokenizer.from_file(str(trained(texts, "wordpiece")))
    assert wordpiece.encode("The OLD dog", add_special_tokens=False).tokens == ["the", "old", "dog"]
    assert wordpiece.encode("☃", add_special_tokens=False).tokens == ["[UNK]"]
    bpe = Tokenizer.from_file(str(trained(texts, "bpe")))
    for text in ("The OLD dog", "Unseen: ☃ 漢字\u2028\x85 tab\t."):
        ids = bpe.encode(text, add_special_tokens=False).ids
        assert 1 not in ids
        assert bpe.decode(ids) == f" {text}"


@KINDS
def test_letters_are_lowered_on_demand(texts: Path, kind: str) -> None:
    for flag, same in (("--lowercase", True), ("--no-lowercase", False)):
        tokenizer = Tokenizer.from_file(str(trained(texts, kind, flag)))
        assert (tokenizer.encode("Teacher").ids == tokenizer.encode("teacher").ids) is same


def test_a_character_that_is_too_rare_is_unknown(texts: Path) -> None:
    texts.write_text(texts.read_text() + "\nthe naïve dog sees a ☃ once")
    for frequency, expected in (("2", "[UNK]"), ("1", "☃")):
        file = trained(texts, "wordpiece", "--min-frequency", frequency)
        tokens = Tokenizer.from_file(str(file)).encode("☃", add_special_tokens=False).tokens
        assert tokens == [expected]


@KINDS
def test_the_same_texts_give_the_same_bytes(texts: Path, tmp_path: Path, kind: str) -> None:
    """In other processes, with other numbers of threads, and in any order of the lines."""
    expected = trained(texts, kind).read_bytes()
    shuffled = tmp_path / "shuffled.txt"
    shuffled.write_text("\n".join(reversed(LINES)))
    for number, file in enumerate((texts, shuffled, texts)):
        output = tmp_path / f"again{number}.json"
        command = [
            sys.executable,
            "-m",
            "osa.service.cli",
            *arguments(file, output, "--kind", kind),
        ]
        environment = {**os.environ, "RAYON_NUM_THREADS": str(number + 1)}
        subprocess.run(
            command, check=True, env=environment, capture_output=True, timeout=PATIENCE_S
        )
        assert output.read_bytes() == expected


def test_bad_lines_are_left_out_and_reported(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [json.dumps({"body": line}) for line in LINES]
    file = tmp_path / "texts.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join([*records, '{"body": 1}', "{", ""]).encode()))
    output = tmp_path / "tokenizer.json"
    assert main(arguments(file, output, "--column", "body")) == 0
    errors = capsys.readouterr().err
    assert "240 of 242 records kept" in errors
    assert f"{file}:241: column 'body' must be a string, got the number 1" in errors
    assert f"{file}:242: is not JSON" in errors
    assert output.read_bytes() == trained(texts, "wordpiece").read_bytes()


def test_what_came_out_is_printed(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(texts, tmp_path / "t.json", vocab_size=5000)) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert captured.err == "choosing the vocabulary\n"
    size = len(Tokenizer.from_file(str(tmp_path / "t.json")).get_vocab())
    words = sum(len(line.split()) for line in LINES)
    assert f"vocabulary      {size} tokens" in printed
    assert f"measured on     240 texts, {words} words" in printed
    assert "tokens a word   1.1" in printed  # a word each, and a few signs
    assert "unknown tokens  0.000%" in printed
    assert "'A cat eats an apple.'\n    -> a cat eats an apple .\n    -> 'a cat eats an apple." in (
        printed
    )


def test_an_existing_tokenizer_is_taken_over_and_measured(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = trained(texts, "wordpiece")
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("the old dog ☃☃ 漢\n")
    output = tmp_path / "new" / "tokenizer.json"
    command = ["tokenizer", "--from", str(tokenizer), "--output", str(output)]
    capsys.readouterr()
    assert main([*command, "--files", str(foreign)]) == 0
    assert "unknown tokens  40.000%" in capsys.readouterr().out
    assert output.read_bytes() == tokenizer.read_bytes()
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    command = ["tokenizer", "--from", str(tmp_path / "directory"), "--output", str(output)]
    assert main([*command, "--force"]) == 0


def test_a_vocabulary_of_bert_is_converted_with_its_settings(texts: Path, tmp_path: Path) -> None:
    source = Tokenizer.from_file(str(trained(texts, "wordpiece", "--no-lowercase")))
    directory = tmp_path / "bert"
    directory.mkdir()
    ids = source.get_vocab()
    vocabulary = sorted(ids, key=lambda token: ids[token])
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (directory / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    output = tmp_path / "converted.json"
    assert main(["tokenizer", "--from", str(directory), "--output", str(output)]) == 0
    converted = Tokenizer.from_file(str(output))
    for line in LINES[:50]:
        assert converted.encode(line).ids == source.encode(line).ids


def test_what_an_existing_tokenizer_lacks_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\ntext\n")
    output = tmp_path / "tokenizer.json"
    assert main(["tokenizer", "--from", str(tmp_path), "--output", str(output)]) == 0
    assert "no mask token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tokenizer.json": "{}"}, "is not a tokenizer"),
        ({"tokenizer.json": Tokenizer(models.BPE()).to_str()}, "makes no tokens of"),
        ({"vocab.txt": "a\nb\n"}, "vocab.txt: the vocabulary has no [UNK]"),
        ({"vocab.txt": "[UNK]\na\n[CLS]\n[SEP]\na\n"}, "lists 'a' twice"),
        (
            {"vocab.txt": "[UNK]\n", "tokenizer_config.json": "{"},
            "tokenizer_config.json is not JSO",
        ),
        ({"vocab.bin": "a"}, "holds neither tokenizer.json nor vocab.txt"),
    ],
)
def test_what_is_no_tokenizer_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, str], message: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in content.items():
        (source / name).write_text(text)
    output = tmp_path / "tokenizer.json"
    assert main(["tokenizer", "--from", str(source), "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--vocab-size", "30"], "a vocabulary of 30 is too small: the alphabet of"),
        (["--vocab-size", "260", "--kind", "bpe"], "alone need 261; raise --vocab-size"),
        (["--min-frequency", "0"], "the smallest frequency must be at least 1, got 0"),
        (["--from", "x.json"], "--from takes a tokenizer as it is, without --vocab-size"),
        (["--files", "/nowhere.txt"], "cannot read /nowhere.txt"),
        (["--files", "table.tsv"], "unknown kind of file; allowed are .txt"),
    ],
)
def test_what_cannot_be_done_is_refused(
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    assert main([*arguments(texts, tmp_path / "tokenizer.json"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tokenizer.json").exists()


@KINDS
def test_files_without_text_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "a.txt").write_text("\n \n\0\n")
    output = tmp_path / "tokenizer.json"
    assert main(arguments(tmp_path / "a.txt", output, "--kind", kind)) == 1
    errors = capsys.readouterr().err
    assert "no text in" in errors
    assert "a.txt:3: byte 1 is NUL" in errors


def test_nothing_to_train_on_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "--output", str(tmp_path / "tokenizer.json")]) == 2
    assert "pass --files to train on, or --from" in capsys.readouterr().err


def test_an_output_that_exists_is_replaced_only_by_force(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tokenizer.json"
    output.write_text("mine")
    assert main(arguments(texts, output)) == 2
    assert "exists: pass --force" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main(arguments(texts, tmp_path)) == 2
    assert "is a directory" in capsys.readouterr().err
    assert main(arguments(texts, output, "--force")) == 0
    assert TextTokenizer.from_file(output).vocab_size <= 400
