"""This project's server, as ``osa serve`` starts it."""

from __future__ import annotations

from benchmarks.serving.peers.base import Family, Launch, Peer, post, read_at

PACKAGES = ("osa-encoder", "torch", "uvicorn", "onnxruntime-gpu")


def _make(
    name: str, folder: str, dtype: str, description: str, *settings: str, family: Family = "osa"
) -> Peer:
    """A server of ours.

    Args:
        name: In commands and tables.
        folder: Of the model, within the family's.
        dtype: Of its matrix products.
        description: For the report.
        settings: SECTION.FIELD=VALUE.
        family: What it serves.
    """

    def command(launch: Launch) -> list[str]:
        chosen = [part for setting in settings for part in ("--set", setting)]
        model = str(launch.models[family] / folder)
        address = ["--host", "127.0.0.1", "--port", str(launch.port)]
        program = [str(launch.python), "-m", "osa.service.cli", "serve"]
        return [*program, "--model", model, *address, *chosen]

    return Peer(
        name=name,
        family=family,
        dtype=dtype,
        command=command,
        request=post("/embed", lambda text: {"inputs": text}),
        read=read_at(0),
        settings=description,
        deadline_header="x-request-timeout-ms",
        packages=PACKAGES,
    )


def _in_dtypes(name: str, folder: str, what: str, family: Family) -> list[Peer]:
    """A server with default settings, and with each dtype."""
    servers = [_make(name, folder, "auto", f"osa serve on {what}, default settings", family=family)]
    for dtype in ("float32", "bfloat16", "int8"):
        setting = f"model.dtype={dtype}"
        described = f"osa serve on {what}, {setting}"
        servers.append(_make(f"{name}-{dtype}", folder, dtype, described, setting, family=family))
    return servers


OURS = (
    *_in_dtypes("osa", "checkpoint", "the checkpoint", "osa"),
    *_in_dtypes("osa-minilm", "", "MiniLM's own directory", "minilm"),
    _make("osa-onnx", "onnx", "float32", "osa serve on the ONNX export, native kernel"),
)
