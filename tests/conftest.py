"""Fixtures shared by every level: a tiny model, the packaged model, a server on a real socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from osa.model import EmbeddingModel, EncoderConfig
from osa.model.tokenization import TextTokenizer
from osa.service.engines.base import Engine
from osa.service.server.app import Service, create_service
from osa.service.server.uvicorn_server import DrainingServer, uvicorn_config
from osa.service.settings import Settings, load_settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
ARITHMETIC = ("OSA_", "MKL_", "OMP_", "ONEDNN_", "ATEN_", "OPENBLAS_")
"""Beginnings of the variables that numerical libraries read."""
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sat", "ran", "on", "mat", "a")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _arithmetic_is_left_alone() -> Iterator[None]:
    """No test may change the environment or the threads that later tests compute with."""
    before = _arithmetic()
    yield
    assert _arithmetic() == before


def _arithmetic() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(ARITHMETIC)}
    return {**kept, "threads": str(torch.get_num_threads())}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def make_tokenizer() -> TextTokenizer:
    """A word-level tokenizer over ``WORDS`` with [CLS] and [SEP] around every text."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return TextTokenizer(tokenizer)


def make_tiny_model(**changes: object) -> EmbeddingModel:
    """A model of two layers and width 16, untrained, with deterministic weights."""
    values: dict[str, object] = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "ffn_size": 32,
        "max_seq_len": 256,
        "matryoshka_dims": (16, 8),
    }
    config = EncoderConfig.from_dict({**values, **changes})
    tokenizer = make_tokenizer() if config.vocab_size is not None else None
    return EmbeddingModel(config, tokenizer, torch.Generator().manual_seed(0)).eval()


@pytest.fixture
def tiny_model() -> EmbeddingModel:
    return make_tiny_model()


@pytest.fixture
def tiny_checkpoint(tmp_path: Path, tiny_model: EmbeddingModel) -> Path:
    directory = tmp_path / "tiny"
    tiny_model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def default_model() -> EmbeddingModel:
    """The packaged model."""
    return EmbeddingModel.from_pretrained()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PATIENCE_S = 300.0
"""Tests wait for events; one that has not come by then never will, on a busy machine either [s]."""


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Poll ``condition``; fail the test when it stays false."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


@contextlib.contextmanager
def run_server(service: Service, settings: Settings) -> Iterator[DrainingServer]:
    """Serve on a real socket from a thread; it stops at the end of the block."""
    server = DrainingServer(uvicorn_config(service, settings), service)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive(), "the server did not stop"


@contextlib.contextmanager
def run_service(service: Service, settings: Settings) -> Iterator[httpx.Client]:
    """Serve on a real socket from a thread; yields a client bound to it."""
    with run_server(service, settings) as server:
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            yield client


def local_settings(**overrides: object) -> Settings:
    """Settings on a free local port; ``section__field`` overrides."""
    values = {name.replace("__", ".", 1): value for name, value in overrides.items()}
    return load_settings({"server.host": "127.0.0.1", "server.port": 0, **values}, environment={})


@pytest.fixture
def serve() -> Iterator[Callable[..., httpx.Client]]:
    """Start servers with any engine and settings; all stop at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(engine: Engine | None = None, **overrides: object) -> httpx.Client:
            settings = local_settings(**overrides)
            return stack.enter_context(run_service(create_service(settings, engine), settings))

        yield start


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    """A server with the packaged model and default settings."""
    settings = local_settings()
    with run_service(create_service(settings), settings) as bound:
        yield bound


@pytest.fixture(scope="session")
def ort_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The custom-op library for ONNX Runtime, built by its own command where it is missing."""
    from osa.export.errors import ExportError
    from osa.export.ort_ops import find_library
    from osa.export.ort_ops.build import build
    from osa.export.ort_ops.headers import include_dir

    try:
        include_dir()
    except ExportError as error:
        pytest.skip(f"ONNX Runtime's headers cannot be had: {error}")
    with FileLock(_session_folder(tmp_path_factory) / "ort_library.lock"):
        return find_library() or build(cuda=False)


def _session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def _own_references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of parity references for this session only; the user's cache is not used."""
    from osa.export.parity import reference

    directory = tmp_path_factory.mktemp("references")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "user_cache", lambda: directory)
        yield


ArtifactMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def make_artifact(tmp_path_factory: pytest.TempPathFactory) -> ArtifactMaker:
    """Exports of one saved tiny model: ``make_artifact(kind, layout, dtype)``.

    Each is made once for all processes of the session, and one ONNX graph a layout for all storage
    types of a process.
    """
    import onnx

    from osa.export.exporter import ExportOptions, export_model
    from osa.export.graph import Layout
    from osa.export.onnx_model import build as to_onnx

    root = _session_folder(tmp_path_factory) / "artifacts"
    root.mkdir(exist_ok=True)
    with FileLock(root / "checkpoint.lock"):
        if not (root / "checkpoint").exists():
            make_tiny_model().save_pretrained(root / "checkpoint")
    model = EmbeddingModel.from_pretrained(root / "checkpoint")
    build = to_onnx.build_onnx
    built: dict[Layout, bytes] = {}

    def build_once(model: EmbeddingModel, layout: Layout) -> onnx.ModelProto:
        if layout not in built:
            built[layout] = build(model, layout).SerializeToString()
        return onnx.load_from_string(built[layout])

    def make(kind: str, layout: str = "packed", dtype: str = "float32") -> Path:
        directory = root / f"{kind}-{layout}-{dtype}"
        with FileLock(root / f"{directory.name}.lock"):
            if not directory.exists():
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(to_onnx, "build_onnx", build_once)
                    export_model(model, directory, ExportOptions(kind, layout, dtype))  # type: ignore[arg-type]
        return directory

    return make


Embed = Callable[..., int]


@pytest.fixture
def embed(tiny_checkpoint: Path, tmp_path: Path) -> Embed:
    """Run ``osa embed`` with the tiny model; the output is ``out.parquet``."""
    from osa.service.cli import main

    def run(*inputs: object, output: str = "out.parquet", options: str = "") -> int:
        fixed = ["--output", str(tmp_path / output), "--model", str(tiny_checkpoint)]
        return main(["embed", *map(str, inputs), *fixed, *options.split()])

    return run
