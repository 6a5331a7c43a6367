"""Small random models of other libraries, as sentence-transformers saves them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
TEXTS = [
    "A man is playing a guitar.",
    "rain",
    "The Café — größer, 日本語! a@b.c 12,345",
    "the cat sat on the mat " * 9,
    "word " * 90,
    " spaces  around ",
]
WIDTH, LONGEST = 16, 64
KINDS = ("albert", "electra", "t5", "qwen2", "xlnet", "roberta", "static")
DEFAULTS: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 80,
}


def make_tokenizer(template: str = "[CLS] $A [SEP]") -> Tokenizer:
    """WordPiece over characters and a few words, with special tokens as the template has them."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!@—日本語éöß"
    words = (*SPECIALS, *letters, *("##" + letter for letter in letters), "the", "cat", "word")
    tokenizer = Tokenizer(
        models.WordPiece(
            {word: place for place, word in enumerate(words)},
            unk_token="[UNK]",
            max_input_chars_per_word=100,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_byte_tokenizer() -> Tokenizer:
    """Bytes, as decoders have them, without special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate((*SPECIALS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def make_library_model(directory: Path, kind: str) -> SentenceTransformer:
    """Save a random model of this kind; returns the library's own, as it loads it."""
    torch.manual_seed(1)
    if kind == "static":
        static = modules.StaticEmbedding(make_tokenizer(), embedding_dim=WIDTH)
        return _saved(directory, [static, modules.Normalize()])
    source = directory.parent / f"{directory.name}-source"
    templates = {"t5": "$A [SEP]", "xlnet": "$A:0 [SEP]:0 [CLS]:2"}
    tokenizer = make_tokenizer(templates.get(kind, "[CLS] $A [SEP]"))
    if kind == "qwen2":
        tokenizer = make_byte_tokenizer()
    size = tokenizer.get_vocab_size()
    names: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if kind == "xlnet":  # whose last token has a type of its own
        names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    wrap: Any = transformers.PreTrainedTokenizerFast  # untyped
    fast = wrap(tokenizer_object=tokenizer, model_max_length=LONGEST, **names)
    makers: dict[str, Any] = {
        "albert": lambda: transformers.AlbertModel(
            transformers.AlbertConfig(vocab_size=size, embedding_size=8, **DEFAULTS)
        ),
        "electra": lambda: transformers.ElectraModel(
            transformers.ElectraConfig(vocab_size=size, embedding_size=8, **DEFAULTS)
        ),
        "roberta": lambda: transformers.RobertaModel(
            transformers.RobertaConfig(vocab_size=size, pad_token_id=0, **DEFAULTS)
        ),
        "t5": lambda: transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=24, num_layers=2, num_heads=2
            )
        ),
        "qwen2": lambda: transformers.Qwen2Model(
            transformers.Qwen2Config(vocab_size=size, num_key_value_heads=2, **DEFAULTS)
        ),
        "xlnet": lambda: transformers.XLNetModel(
            transformers.XLNetConfig(
                vocab_size=size, d_model=WIDTH, n_layer=2, n_head=2, d_inner=24
            )
        ),
    }
    model = makers[kind]()
    for parameter in model.parameters():  # far from zero, so that a wrong mask shows
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(source)
    fast.save_pretrained(source)
    parts: list[torch.nn.Module] = [modules.Transformer(str(source))]
    pooling = {"electra": "cls", "qwen2": "lasttoken", "xlnet": ("mean", "max")}
    parts.append(modules.Pooling(WIDTH, pooling.get(kind, "mean")))
    if kind == "electra":
        parts.append(modules.Dense(WIDTH, 12))
    if kind != "roberta":
        parts.append(modules.Normalize())
    prompts = {"query": "a question: ", "document": ""} if kind == "albert" else None
    return _saved(directory, parts, prompts)


def _saved(
    directory: Path, parts: list[torch.nn.Module], prompts: dict[str, str] | None = None
) -> SentenceTransformer:
    made = SentenceTransformer(modules=parts, device="cpu", prompts=prompts)
    made.save(str(directory), create_model_card=False)
    return load_by_library(directory)


def load_by_library(directory: Path) -> SentenceTransformer:
    """The library's own model in float32."""
    return SentenceTransformer(str(directory), device="cpu", local_files_only=True)


def change_json(file: Path, **values: object) -> None:
    """Change values of a JSON object in a file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled
