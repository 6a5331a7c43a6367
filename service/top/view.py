"""A snapshot as lines of text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from osa.model.common.terminal import clip, harmless
from osa.service.top.snapshot import Snapshot

LEVELS = " ▁▂▃▄▅▆▇█"
GREEN, RED, DIM, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
MISSING = "-"
CELL = 26
"""Width of a figure with its name [characters]."""
LONGEST_NAME = 200


def render(
    snapshot: Snapshot, url: str, history: Sequence[float], width: int, colour: bool = True
) -> list[str]:
    """Lines that fit ``width``, least important last.

    Args:
        snapshot: What is shown.
        url: The server's.
        history: Tokens a second, oldest first.
        width: Of the terminal [characters].
        colour: Whether to use it.
    """
    info, state = snapshot.info, _state(snapshot)
    names = (info.get(name) for name in ("model_id", "backend", "kernel"))
    model = " ".join(name[:LONGEST_NAME] for name in names if isinstance(name, str))
    lines = [f"osa top  {url}  {model}", f"{state}  over {snapshot.interval_s:.1f} s", ""]
    for title, figures in _figures(snapshot).items():
        lines += _grid(title, figures, width)
    lines += _failures(snapshot)
    bar = sparkline(history, max(0, width - 22))
    lines += ["", f"tokens/s  {bar}  {_number(max(history, default=0.0))} most"]
    lines = [clip(harmless(line), width) for line in lines]
    if colour:
        tone = GREEN if snapshot.ready and snapshot.engine_up is not False else RED
        lines[0] = f"{BOLD}{lines[0]}{PLAIN}"
        lines[1] = f"{tone}{lines[1]}{PLAIN}"
    return lines


def _state(snapshot: Snapshot) -> str:
    if snapshot.engine_up is False:
        return "engine down"
    return {True: "ready", False: "not ready", None: "readiness unknown"}[snapshot.ready]


def _figures(snapshot: Snapshot) -> dict[str, list[tuple[str, str]]]:
    groups = {
        "work": [
            ("requests/s", _number(snapshot.requests_rate)),
            ("texts/s", _number(snapshot.texts_rate)),
            ("tokens/s", _number(snapshot.tokens_rate)),
            ("engine busy", _percent(snapshot.engine_busy)),
            ("engine tokens/s", _number(snapshot.engine_speed)),
            ("truncated/s", _number(snapshot.truncated_rate)),
        ],
        "latency": [
            ("p50", _time(snapshot.p50_s)),
            ("p95", _time(snapshot.p95_s)),
            ("p99", _time(snapshot.p99_s)),
            ("queue p99", _time(snapshot.queue_p99_s)),
            ("inference p99", _time(snapshot.inference_p99_s)),
        ],
        "queue": [
            ("texts", _number(snapshot.queued_texts)),
            ("tokens", _number(snapshot.queued_tokens)),
            ("backlog", _time(snapshot.backlog_s)),
            ("in flight", _number(snapshot.in_flight)),
            ("given up tokens/s", _number(snapshot.cancelled_tokens_rate)),
        ],
        "batch": [
            ("texts", _number(snapshot.batch_texts)),
            ("tokens", _number(snapshot.batch_tokens)),
            ("fill", _percent(snapshot.batch_fill)),
            ("limit", _number(snapshot.batch_token_limit)),
            ("shared/s", _number(snapshot.shared_rate)),
            ("cache hits", _percent(snapshot.cache_hits)),
            ("cache", _bytes(snapshot.cache_bytes)),
        ],
        "process": [
            ("restarts", _number(snapshot.restarts)),
            ("not finite", _number(snapshot.nonfinite_total)),
            ("memory", _bytes(snapshot.memory_bytes)),
            ("cores", _number(snapshot.cpu)),
        ],
    }
    optional = {
        "engine busy",
        "engine tokens/s",
        "shared/s",
        "cache hits",
        "cache",
        "restarts",
        "limit",
    }
    return {
        title: [one for one in figures if one[1] != MISSING or one[0] not in optional]
        for title, figures in groups.items()
    }


def _grid(title: str, figures: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Figures in as many columns as fit, under their group's title."""
    columns = max(1, (width - 9) // CELL)
    lines = []
    for start in range(0, len(figures), columns):
        cells = [f"{name} {value}".ljust(CELL) for name, value in figures[start : start + columns]]
        lines.append(f"{title if start == 0 else '':<9}{''.join(cells)}".rstrip())
    return lines


def _failures(snapshot: Snapshot) -> list[str]:
    if not snapshot.failures_total:
        return ["failures none"]
    parts = [
        f"{kind[:LONGEST_NAME]} {_number(total)}"
        + (f" (+{_number(new)})" if (new := snapshot.failures.get(kind)) else "")
        for kind, total in snapshot.failures_total.items()
    ]
    return [f"failures {', '.join(parts)}"]


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars, the largest full."""
    shown = list(values)[-width:] if width else []
    top = max(shown, default=0.0)
    heights = (max(0.0, value / top) if top > 0 else 0.0 for value in shown)
    return "".join(LEVELS[round(height * (len(LEVELS) - 1))] for height in heights)


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if suffix == 'k' else size):.3g}{suffix}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2g}"


def _time(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f} %"


def _bytes(value: float | None) -> str:
    return MISSING if value is None else f"{value / 2**20:.0f} MiB"
