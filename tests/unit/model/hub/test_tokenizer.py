"""Options of ``tokenizer_config.json`` give the ids that transformers gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from osa.model.hub.tokenizer import with_settings
from osa.model.tokenization import TextTokenizer
from tests.transformer_models import MINILM

TEXTS = ["hello world", "Hello  World", "ÉCOLE", "日本語 a"]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def cased(path: Path) -> None:
    """MiniLM's tokenizer with all of its options turned."""
    values = json.loads((MINILM / "tokenizer.json").read_text())
    values["normalizer"] |= {
        "lowercase": False,
        "strip_accents": False,
        "handle_chinese_chars": False,
    }
    path.write_text(json.dumps(values))


def byte_level(path: Path) -> None:
    """A small tokenizer of RoBERTa's kind that puts a space before texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator(TEXTS * 4, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.save(str(path))


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("bert", {}),
        ("bert", {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}),
        ("bert", {"tokenizer_class": "PreTrainedTokenizerFast"}),
        ("distilbert", {"strip_accents": False, "tokenize_chinese_chars": False}),
        ("modernbert", {}),
        ("roberta", SPECIAL),
        ("roberta", {**SPECIAL, "add_prefix_space": True}),
    ],
)
def test_ids_are_those_of_transformers(
    model_type: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    (byte_level if model_type == "roberta" else cased)(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    content = (tmp_path / "tokenizer.json").read_bytes()
    ours = TextTokenizer.from_json(with_settings(content, settings, model_type))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert [item.ids for item in ours.encode(TEXTS)] == theirs(TEXTS)["input_ids"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{" * 100_000])
def test_what_is_no_tokenizer_is_left_to_its_reader(content: bytes) -> None:
    assert with_settings(content, {}, "bert") == content
