"""Architectures that our encoder runs: one function each, by ``model_type`` of ``config.json``."""

from __future__ import annotations

from collections.abc import Callable

from osa.model.hub.architectures.bert import bert, roberta
from osa.model.hub.architectures.distilbert import distilbert
from osa.model.hub.architectures.gte import gte
from osa.model.hub.architectures.modernbert import modernbert
from osa.model.hub.architectures.mpnet import mpnet
from osa.model.hub.architectures.nomic import nomic
from osa.model.hub.architectures.values import Architecture, Values

ARCHITECTURES: dict[str, Callable[[Values], Architecture]] = {
    "bert": bert,
    "roberta": roberta,
    "xlm-roberta": roberta,
    "camembert": roberta,
    "distilbert": distilbert,
    "mpnet": mpnet,
    "modernbert": modernbert,
    "nomic_bert": nomic,
    "new": gte,
    "gte": gte,
}
OWN_CODE = ("nomic_bert", "new", "gte")
"""Model types that come with code of their own, which is implemented here instead."""
__all__ = ["ARCHITECTURES", "OWN_CODE", "Architecture", "Values"]
