"""Logs on standard error: one JSON object per line, constant messages, facts as fields."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

from osa.service.observability.log_writer import LogWriter
from osa.service.server_settings import LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Plain text for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = [
            f"{name}={value!r}" for name, value in vars(record).items() if name not in _STANDARD
        ]
        text = " ".join([f"{record.levelname.lower():7}", record.getMessage(), *fields])
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(settings: LogSettings) -> None:
    """Send every log of the process, and warnings, to standard error in the configured form."""
    handler = LogWriter(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
    # what no line shows need not be looked up for each
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
