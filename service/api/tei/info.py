"""The answer of ``GET /info`` for a served model."""

from __future__ import annotations

import functools
import os
import re
from importlib.metadata import version

from osa.model.common.threads import Threads, threads
from osa.model.common.widths import takes_any_width
from osa.service.api.tei.info_schemas import (
    Classifies,
    Embeds,
    Info,
    Labels,
    ModelType,
    Pooling,
    Reranks,
)
from osa.service.engines.base import EngineInfo
from osa.service.models.served_model import ServedModel
from osa.service.settings import Settings

REVISION_VARIABLE = "IMAGE_REVISION"
"""Set by the image (docker/Dockerfile)."""
COMMIT = re.compile(r"[0-9a-f]{7,64}")


def model_info(settings: Settings, model: ServedModel, names: list[str]) -> Info:
    """Model, limits, engine, and the artifact's manifest if there is one; ``names`` are served."""
    about, (installed, running) = model.about, _process()
    revision = _revision()
    return Info(
        model_id=model.name,
        models=names,
        model_sha=about.model_sha256,
        model_dtype=about.dtype,
        served_model_name=model.name,
        model_type=model_type(about),
        max_concurrent_requests=settings.server.max_concurrent_requests,
        max_input_length=model.embedder.max_input_length,
        max_batch_tokens=settings.batching.max_batch_tokens,
        max_batch_requests=settings.batching.max_batch_requests,
        max_client_batch_size=settings.batching.max_client_batch_size,
        auto_truncate=model.embedder.auto_truncate,
        tokenization_workers=settings.batching.tokenization_workers,
        threads=running.count,
        threads_reason=running.reason,
        version=installed,
        sha=revision,
        docker_label=None if revision is None else f"sha-{revision[:7]}",
        dimensions=list(about.dimensions),
        any_dimension=takes_any_width(about.dimensions),
        kind=about.task,
        prompts=sorted(model.embedder.prompts.by_name),
        default_prompt_name=model.embedder.prompts.default_name,
        backend=about.backend,
        device=about.device,
        kernel=about.kernel,
        products=about.products or about.backend,
        mixer=about.mixer,
        batch_invariant=model.batch_invariant,
        batch_invariant_reason=None if model.batch_invariant else variance_reason(about),
        packed=about.packed,
        member=model.member,
        input_kind="text" if about.feature_size is None else "features",
        feature_size=about.feature_size,
        artifact=None if about.manifest is None else dict(about.manifest),
    )


@functools.cache
def _process() -> tuple[str, Threads]:
    """Installed version and threads: read from files, the same for as long as the process lives."""
    return version("osa-encoder"), threads()


def _revision() -> str | None:
    """Commit of the image, where it was built with one."""
    revision = os.environ.get(REVISION_VARIABLE, "")
    return revision if COMMIT.fullmatch(revision) else None


def model_type(about: EngineInfo) -> ModelType:
    """What the model does, with its pooling or labels."""
    if about.task in ("embedding", "sparse"):
        pooling = "splade" if about.task == "sparse" else about.pooling
        return Embeds(embedding=Pooling(pooling=pooling))
    labels = Labels(
        id2label={str(place): label for place, label in enumerate(about.labels)},
        label2id={label: place for place, label in enumerate(about.labels)},
    )
    return Reranks(reranker=labels) if about.task == "reranker" else Classifies(classifier=labels)


def variance_reason(about: EngineInfo) -> str:
    """Why an engine's vectors may change in their last bits with batch composition."""
    if not about.claims_invariance:
        why = (
            f"the {about.backend} engine pads texts to the longest of their batch, and claims "
            "neither batch invariance nor packing"
        )
    elif about.dtype == "int8" and about.backend == "onnxruntime":
        why = "int8 graphs scale a product by the largest value of the whole batch"
    elif about.device.startswith("cuda"):
        why = f"the matrix products of this GPU in {about.dtype} sum in an order that depends on it"
    else:
        why = (
            f"the matrix products of the {about.backend} engine in {about.dtype} on this processor "
            "sum in an order that depends on how many rows there are"
        )
    return f"The last bits of a vector may depend on the batch that it is computed in: {why}."
