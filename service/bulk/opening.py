"""The engine of a bulk run, and what is asked of it: the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from osa.model.errors import ConfigError
from osa.service.commands.preflight import fetch_models
from osa.service.inference.prompts import Prompts
from osa.service.settings import Settings

if TYPE_CHECKING:
    from osa.model.streaming.shared import SharedDocuments
    from osa.service.bulk.encoder import BulkEncoder, Dtype
    from osa.service.bulk.window_vectors import Grouping
    from osa.service.engines.base import Engine


@dataclass(frozen=True)
class EncoderRequest:
    """What a run asks of its encoders.

    Attributes:
        settings: As they were given: models of the hub are fetched where the encoder runs.
        kind: What the model takes.
        batch_tokens: Largest batch [tokens]; None for that of the settings.
        dimensions: Leading dimensions to keep; None for all.
        dtype: Type of the vectors' elements.
        prompt_name: Of the prompt before texts; None for the default one.
        grouping: How a document becomes several vectors, without a prompt; None for one vector.
    """

    settings: Settings
    kind: str = "text"
    batch_tokens: int | None = None
    dimensions: int | None = None
    dtype: Dtype = "float32"
    prompt_name: str | None = None
    grouping: Grouping | None = None


def open_encoder(
    request: EncoderRequest, tell: Callable[[str], object] = lambda line: None
) -> BulkEncoder:
    """Open, warm up and try the engine that the server would choose.

    Args:
        request: What is asked of it.
        tell: Told which engine it is, and why.

    Raises:
        ConfigError: The model does not do what is asked.
        CheckpointError: The model cannot be opened.
        DownloadError: It cannot be had.
    """
    from osa.model.processor import limit_instruction_set
    from osa.service.bulk.encoder import BatchLimits, BulkEncoder, TextOptions
    from osa.service.engines.selection import select_engine
    from osa.service.engines.trial import try_engine
    from osa.service.inference.tasks import check_task

    settings = fetch_models(request.settings)
    own = settings.served()[0]
    limit_instruction_set(own.instruction_set)
    selection = select_engine(own)
    engine = selection.engine
    check_task(engine.info, ("embedding",))
    prompt = ""
    if request.kind == "text" and request.grouping is None:
        prompt = find_prompt(Prompts.of(engine.info, own), request.prompt_name)
    engine.warm_up()
    try_engine(engine)
    tell(f"{engine.info.backend}: {selection.reason}")
    batching = settings.batching
    return BulkEncoder(
        engine,
        BatchLimits(request.batch_tokens or batching.max_batch_tokens, batching.max_batch_requests),
        request.dimensions,
        request.dtype,
        TextOptions(prompt, own.auto_truncate, own.max_input_length),
        _documents(engine),
        request.grouping,
    )


def _documents(engine: Engine) -> SharedDocuments | None:
    """What computes texts of any length, if the engine can.

    Raises:
        ConfigError: There are several processes, but it cannot.
    """
    from osa.model.streaming.shared import SharedDocuments
    from osa.service.engines.streaming import StreamingEngine

    info = engine.info
    if info.streams and isinstance(engine, StreamingEngine):
        streaming = engine
        return SharedDocuments(lambda ids, options: streaming.stream(ids, (), options))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"several processes share long texts, which the {info.mixer} mixer in the "
            f"{info.backend} engine cannot take in chunks: start one process"
        )
    return None


def find_prompt(prompts: Prompts, name: str | None) -> str:
    """The prompt of this name, or of none the default one.

    Raises:
        ConfigError: There is no such prompt.
    """
    try:
        return prompts.find(name)
    except KeyError:
        raise ConfigError(
            f"--prompt-name must be one of the model's prompts ({prompts.known}), got {name!r}"
        ) from None
