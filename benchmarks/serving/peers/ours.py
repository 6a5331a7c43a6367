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


OURS = (
    _make("osa", "checkpoint", "auto", "osa serve on the checkpoint, default settings"),
    _make(
        "osa-float32",
        "checkpoint",
        "float32",
        "osa serve on the checkpoint, model.dtype=float32",
        "model.dtype=float32",
    ),
    _make(
        "osa-minilm",
        "",
        "auto",
        "osa serve on MiniLM's own directory, default settings",
        family="minilm",
    ),
    _make(
        "osa-minilm-float32",
        "",
        "float32",
        "osa serve on MiniLM's own directory, model.dtype=float32",
        "model.dtype=float32",
        family="minilm",
    ),
    _make("osa-onnx", "onnx", "float32", "osa serve on the ONNX export, native kernel"),
)
