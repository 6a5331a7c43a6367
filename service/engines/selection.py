"""Selection of the engine for a directory, by its content, the settings and this machine.

A directory is a checkpoint (``manifest.json``), an artifact (``artifact.json``), a model of
transformers or sentence-transformers, or a collection: a directory of checkpoints and artifacts,
all forms of one model. Of another library's models the native encoder runs what it can, and
sentence-transformers the rest. Of a collection ``auto`` loads every form
that runs here, times them, and keeps the fastest. It does not trade accuracy for speed: only forms
of the widest dtype are compared, and narrower ones beside it where ``model.dtype`` allows them.
"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from osa.export.formats import DTYPES
from osa.export.manifest import is_artifact, read_manifest
from osa.model import hub
from osa.model.common.directories import MANIFEST, describe_path, kind_of
from osa.model.errors import ConfigError, OsaError, UnsupportedModelError
from osa.model.processor import has_fast_bfloat16
from osa.service.engines.base import Engine, trial_batch
from osa.service.engines.registry import CHECKPOINT, ENGINES, LIBRARY, engines_for
from osa.service.engines.trial import try_engine
from osa.service.model_settings import ModelSettings

TRIAL = ((32,) * 8, (512,), (2048,))
"""Batches that candidates are timed on [tokens a sequence]."""
ROUNDS = 5


@dataclass(frozen=True)
class Selection:
    """A selected engine.

    Attributes:
        engine: Ready to warm up.
        reason: Why it was selected, for the log.
        path: The checkpoint or artifact that it runs, of a collection one of its members; None for
            the packaged model.
    """

    engine: Engine
    reason: str
    path: Path | None


def select_engine(settings: ModelSettings) -> Selection:
    """Open what ``settings.path`` holds, with the engine that ``settings.engine`` names.

    Raises:
        OsaError: Nothing in the directory can be served here; says why.
    """
    _route_torch_logs()
    path = settings.path
    if path is None or kind_of(path) == "checkpoint":
        return _open_checkpoint(path, settings)
    if kind_of(path) == "transformer":
        return _open_transformer(path, settings)
    if is_artifact(path):
        return _open_artifact(path, settings)
    if not path.is_dir():
        raise ConfigError(f"model.path: {describe_path(path)}")
    members = [
        member
        for member in sorted(path.iterdir())
        if member.is_dir() and ((member / MANIFEST).is_file() or is_artifact(member))
    ]
    if not members:
        raise ConfigError(f"model.path: {describe_path(path)}")
    return _open_fastest(members, settings)


def _route_torch_logs() -> None:
    """Let the process's own log have what torch's loggers print to standard error themselves."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] == "torch" and isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True


def _open_checkpoint(path: Path | None, settings: ModelSettings) -> Selection:
    able = [entry.name for entry in engines_for(CHECKPOINT)]
    name = able[0] if settings.engine == "auto" else settings.engine
    if name not in able:
        raise ConfigError(
            f"model.engine is {name}, but a checkpoint runs by {', '.join(able)}: "
            "export it first, 'osa export --help'"
        )
    reason = "asked for by model.engine"
    if settings.engine == "auto":
        reason = "a checkpoint runs eagerly; compile takes up to a minute before the first answer"
    return Selection(ENGINES[name].load().open(path, settings), reason, path)


def _open_transformer(path: Path, settings: ModelSettings) -> Selection:
    """Natively where that is possible and no other engine is asked for."""
    if settings.engine == LIBRARY:
        return _open_by_library(path, settings, "asked for by model.engine")
    problem = hub.unsupported(path)
    try:
        if problem is None:
            return _open_checkpoint(path, settings)
    except UnsupportedModelError as error:  # which only the weights tell
        problem = str(error)
    if settings.engine != "auto":
        raise UnsupportedModelError(
            f"model.engine is {settings.engine}, but {problem}: {LIBRARY} may run it"
        )
    return _open_by_library(path, settings, f"not run by the native encoder: {problem}")


def _open_by_library(path: Path, settings: ModelSettings, reason: str) -> Selection:
    try:
        return Selection(ENGINES[LIBRARY].load().open(path, settings), reason, path)
    except OsaError as error:
        if settings.engine == LIBRARY:
            raise
        raise type(error)(f"{error} ({reason})") from error


def _open_artifact(path: Path, settings: ModelSettings) -> Selection:
    able = _engines_of(path)
    name = able[0] if settings.engine == "auto" else settings.engine
    if name not in able:
        raise ConfigError(
            f"model.engine is {name}, but {path} is an artifact that {' or '.join(able)} runs"
        )
    engine = ENGINES[name].load().open(path, settings)
    return Selection(engine, f"the artifact's format is run by {name}", path)


def _open_fastest(members: list[Path], settings: ModelSettings) -> Selection:
    """The fastest member that runs here, by the configured engine if one is set."""
    problems: list[str] = []
    found: list[tuple[float, str, Engine]] = []
    sources: dict[str, str] = {}
    for member in members:
        try:
            if settings.engine not in ("auto", *_engines_of(member)):
                continue
            opener = _open_artifact if is_artifact(member) else _open_checkpoint
            engine = opener(member, settings).engine
            sources[member.name] = engine.info.source_sha256
            engine.warm_up()
            try_engine(engine)
            found.append((_time(engine), member.name, engine))
        except OsaError as error:
            problems.append(f"{member.name}: {error}")
    if not found:
        wanted = "" if settings.engine == "auto" else f" that {settings.engine} runs"
        detail = "; ".join(problems) or "no member is of that kind"
        raise ConfigError(f"nothing in {members[0].parent}{wanted} can be served here: {detail}")
    if len(set(sources.values())) > 1:
        different = ", ".join(f"{name} of {sha[:12]}" for name, sha in sources.items())
        raise ConfigError(f"the members of {members[0].parent} are different models: {different}")
    widest = min((entry[2].info.dtype for entry in found), key=DTYPES.index)
    allowed = {widest, *_narrower(settings, found[0][2])}
    problems += [
        f"{name}: {engine.info.dtype} is less exact than {widest}"
        for _, name, engine in found
        if engine.info.dtype not in allowed
    ]
    found = sorted(
        (entry for entry in found if entry[2].info.dtype in allowed), key=lambda entry: entry[0]
    )
    times = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for seconds, name, _ in found)
    reason = f"fastest of those that run here ({times})"
    if problems:
        reason += f"; left out: {'; '.join(problems)}"
    _, name, engine = found[0]
    return Selection(engine, reason, members[0].parent / name)


def _narrower(settings: ModelSettings, engine: Engine) -> tuple[str, ...]:
    """Dtypes that compete with a wider one."""
    if settings.dtype == "int8":
        return DTYPES
    fast = settings.dtype == "auto" and has_fast_bfloat16(engine.info.device)
    return ("bfloat16",) if fast or settings.dtype == "bfloat16" else ()


def _engines_of(member: Path) -> list[str]:
    """Names of the engines that could run a member, the preferred one first."""
    what = read_manifest(member).kind if is_artifact(member) else CHECKPOINT
    return [entry.name for entry in engines_for(what)]


def _time(engine: Engine) -> float:
    """Time for the trial batches [s], median of rounds."""
    batches = [trial_batch(engine.info, lengths) for lengths in TRIAL]
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for batch in batches:
            engine.embed(batch)
        rounds.append(time.perf_counter() - start)
    return statistics.median(rounds)
