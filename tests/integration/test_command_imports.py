"""Commands import packages only when needed, because importing torch takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_process import run_command

HEAVY = (
    *("torch", "numpy", "onnx", "onnxruntime", "fastapi", "uvicorn", "pyarrow", "matplotlib"),
    *("huggingface_hub", "sentence_transformers", "triton", "sympy", "safetensors", "tokenizers"),
)
COMMANDS = ("serve", "train", "tokenizer", "export", "download", "verify", "inspect", "embed",
            "top", "config", "calibrate", "key", "info")  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--version"], 0, "0."),
        (["--help"], 0, "serve a model over HTTP"),
        (["key", "search-team"], 0, "[[keys]]"),
        (["key", "a", "--max-request-tokens", "9"], 2, "needs tokens_per_minute"),
        (["key", "a", "--weight", "5"], 0, "weight = 5"),
        (["config"], 0, '"max_batch_tokens"'),
        (["top", "http://127.0.0.1:1"], 1, "no answer from http://127.0.0.1:1"),
        (["surf"], 2, "invalid choice: 'surf'"),
        *((([command, "--help"]), 0, f"usage: osa {command}") for command in COMMANDS),
    ],
)
def test_a_command_without_a_model_imports_nothing_heavy(
    arguments: list[str], code: int, told: str
) -> None:
    done = run_command(*arguments)
    assert (done.code, done.imported(*HEAVY)) == (code, set())
    assert told in done.out + done.errors


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("export", ["{onnx,aoti,torch-export}", "{packed,padded}"]),
        ("train", ["recipe: default", "{float16,bfloat16,float32,int8}"]),
        ("tokenizer", ["{wordpiece,bpe}"]),
        ("embed", ["{txt,jsonl,csv}", "{float32,float16}"]),
    ],
)
def test_help_lists_what_is_allowed(command: str, choices: list[str]) -> None:
    told = " ".join(run_command(command, "--help", COLUMNS="500").out.split())
    assert [choice for choice in choices if choice not in told] == []


def test_choices_of_the_command_line_are_those_of_the_code() -> None:
    """The parser has its own copy, so that it need not import the code."""
    from typing import get_args

    from osa.model.common.directories import WEIGHT_TYPES
    from osa.model.stored_weights import STORED_DTYPES
    from osa.model.training.tokenizer import cli as tokenizer_cli
    from osa.model.training.tokenizer.train import TokenizerKind

    stored = {*map(str, STORED_DTYPES), "torch.int8"}
    assert {f"torch.{name}" for name in WEIGHT_TYPES} == stored
    assert get_args(TokenizerKind) == tokenizer_cli.KINDS


SERVE = """
import sys
from osa.service.server import uvicorn_server as server
from osa.service.cli import main
server.serve = lambda service, settings, listener: print(*sorted(sys.modules))
raise SystemExit(main(["serve", "--host", "127.0.0.1", "--port", "0", "--model", sys.argv[1]]))
"""


def test_a_server_of_a_checkpoint_imports_no_other_runtime(tiny_checkpoint: Path) -> None:
    """Until it would listen, after its model was warmed up and tested."""
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tiny_checkpoint)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {"torch", "fastapi"} <= modules
    others = {"onnx", "onnxruntime", "pyarrow", "matplotlib", "sentence_transformers", "grpc"}
    compiler = {"torch._dynamo", "torch._inductor.compile_fx", "sympy", "triton"}
    assert modules & (others | compiler) == set()


def test_names_of_the_package_are_there_when_they_are_asked_for() -> None:
    import osa.model
    from osa.model import EmbeddingModel, Encoder
    from osa.model.embedding_model import EmbeddingModel as Same

    assert EmbeddingModel is Same
    assert osa.model.Encoder is Encoder
    assert set(osa.model.__all__) <= set(dir(osa.model))
    with pytest.raises(AttributeError, match="no attribute 'Embedder'"):
        osa.model.Embedder  # type: ignore[attr-defined]  # noqa: B018
