"""From settings to a served model: opened, warmed up, tried, and only then put to work."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from osa.model.calibration import Calibration
from osa.model.common.threads import threads
from osa.model.download.models import local_path
from osa.model.errors import ConfigError, OsaError
from osa.model.inference.cuda_device import device_name
from osa.model.processor import PRODUCT_ORDER, limit_instruction_set
from osa.model.text.slices import PARALLEL
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.documents import DocumentLimits
from osa.service.batching.fair_lock import FairLock
from osa.service.batching.supervisor import EngineSupervisor
from osa.service.engines.base import Engine, EngineInfo
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.selection import Selection, select_engine
from osa.service.engines.trial import try_engine
from osa.service.inference.embedder import Embedder
from osa.service.inference.tasks import LABELLING
from osa.service.model_settings import ModelSettings
from osa.service.models.served_model import ServedModel
from osa.service.models.warm_up import warm_up
from osa.service.observability.metrics import Families, Metrics
from osa.service.observability.tracing import Tracing
from osa.service.settings import Settings

logger = logging.getLogger(__name__)


class ModelLoader:
    """Loads models that share one device and one registry of metrics."""

    def __init__(
        self, settings: Settings, families: Families, tracing: Tracing | None = None
    ) -> None:
        """Bind what every model shares."""
        self._settings, self._families, self._tracing = settings, families, tracing
        self._lock = FairLock()

    def load(self, settings: ModelSettings, engine: Engine | None = None) -> ServedModel:
        """Open and try a model; it takes no work before its supervisor starts.

        Args:
            settings: The model's own, as of ``Settings.named``.
            engine: To serve in place of what its path holds, for tests.

        Raises:
            OsaError: The model cannot be loaded, is of another kind, or the settings do not fit it.
        """
        path = local_path(settings.path, settings.refresh)
        name, settings = settings.name, settings.model_copy(update={"path": path})
        given, served = engine, path
        if given is None:
            selection = _select(settings)
            engine, served = selection.engine, selection.path
            _check_kind(settings, engine)
        else:
            engine = given
            _check_kind(settings, engine)
            given.warm_up()
        batching = self._settings.batching
        queue = BatchQueue(
            batching.max_queue_tokens,
            batching.max_batch_tokens,
            batching.max_batch_requests,
            batching.target_batch_s,
            self._document_limits(engine.info) if engine.info.streams else None,
        )
        if given is None:
            queue.observe(*warm_up(engine, queue))
        about = engine.info
        if about.device == "cpu":  # other threads of the library would take the engine's cores
            os.environ.setdefault(PARALLEL, "false")
        invariant = given is None and about.claims_invariance and is_batch_invariant(engine)
        facts = {"model": name, "backend": about.backend, "kernel": about.kernel}
        if about.kernel.startswith("torch ("):
            logger.warning("attention runs in plain torch", extra=facts)
        if given is None and not invariant:
            logger.warning("vectors depend on their batch in the last bits", extra=facts)
        metrics = Metrics(name, self._families, about.task in LABELLING)
        own = self._settings.model_copy(update={"model": settings})
        try:
            embedder = Embedder(about, engine.tokenizer, queue, metrics, own)
        except OsaError:
            metrics.end(keep=False)
            raise
        supervisor = EngineSupervisor(
            engine,
            _reopener(settings.model_copy(update={"path": served}), given, about.model_sha256),
            queue,
            metrics,
            self._settings.engine,
            self._lock,
            self._tracing,
        )
        member = None if served is None or served == path else served.name
        calibration = about.calibration
        if member is not None and path is not None:  # measured on any form of the model
            calibration = Calibration.find(path) or calibration
        return ServedModel(
            name, about, embedder, queue, supervisor, metrics, invariant, calibration, member
        )

    def _document_limits(self, about: EngineInfo) -> DocumentLimits:
        """Bounds of the inputs that are computed in chunks."""
        limits = self._settings.documents
        longest = min(self._settings.batching.max_batch_tokens, about.max_input_length)
        return DocumentLimits(
            longest, limits.max_tokens, limits.turn_s, limits.directory, limits.keep_states
        )


def _check_kind(settings: ModelSettings, engine: Engine) -> None:
    """Refuse a model that does something else than its settings say."""
    if settings.kind not in (None, engine.info.task):
        where = "the packaged model" if settings.path is None else settings.path
        raise ConfigError(f"kind is {settings.kind}, but {where} is of kind {engine.info.task}")


def _select(settings: ModelSettings) -> Selection:
    """What runs ``model.path``'s content, on the instruction set that is asked for."""
    limit_instruction_set(settings.instruction_set)
    selection = select_engine(settings)
    about = selection.engine.info
    running = threads()
    facts = {"backend": about.backend, "kernel": about.kernel, "dtype": about.dtype}
    facts["device"] = device_name(about.device)
    facts["products"] = about.products or about.backend
    limits = {"threads": running.count, "threads_reason": running.reason}
    order = os.environ.get(PRODUCT_ORDER)
    more = {**limits, "reason": selection.reason, "product_order": order}
    logger.info("engine selected", extra={**facts, **more})
    return selection


def _reopener(settings: ModelSettings, given: Engine | None, sha256: str) -> Callable[[], Engine]:
    """Opens the same model once more, of a collection the same member, tried and ready for work."""

    def reopen() -> Engine:
        if given is not None:
            given.warm_up()
            return given
        engine = _select(settings).engine
        if engine.info.model_sha256 != sha256:
            raise ConfigError(
                f"the files of {settings.path} are those of another model by now (sha256 "
                f"{engine.info.model_sha256[:12]}, served is {sha256[:12]}): restart the server, "
                "or load the model by /admin/models"
            )
        engine.warm_up()
        try_engine(engine)
        return engine

    return reopen
