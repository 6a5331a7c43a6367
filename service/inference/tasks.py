"""What a model does, and which routes ask for it."""

from __future__ import annotations

from osa.model.config import Task
from osa.service.engines.base import EngineInfo
from osa.service.errors import ModelKindError

KINDS: dict[Task, str] = {
    "embedding": "an embedding model",
    "classifier": "a classifier",
    "reranker": "a reranker",
    "sparse": "a sparse model",
}
ROUTES: dict[Task, str] = {
    "embedding": "/embed, /v1/embeddings, /similarity",
    "classifier": "/predict",
    "reranker": "/rerank, /v1/rerank, /v2/rerank, /predict",
    "sparse": "/embed_sparse",
}
LABELLING: tuple[Task, ...] = ("classifier", "reranker")
"""Tasks whose models give logits, and take pairs of texts."""


def check_task(about: EngineInfo, tasks: tuple[Task, ...]) -> None:
    """Refuse a model that does none of ``tasks``; empty allows all.

    Raises:
        ModelKindError: Saying what the model is, and which routes it answers.
    """
    if tasks and about.task not in tasks:
        raise ModelKindError(other_kind(about.task), param="model")


def other_kind(task: Task) -> str:
    """The message of a request to a model that does something else, ``task``."""
    return f"this model is {KINDS[task]}; it answers {ROUTES[task]}"


def no_pairs(task: Task) -> str:
    """The message of pairs of texts for a model that takes none."""
    return f"pairs of texts are for classifiers and rerankers, this model is {KINDS[task]}"


NO_RERANKER = (
    other_kind("embedding") + ', and this route with "method": "maxsim", which compares tokens'
)
"""The message of a request for a reranker to an embedding model."""
