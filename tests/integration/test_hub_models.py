"""``hf:`` references in commands and over the wire, with ``huggingface_hub`` and a local hub."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from osa.model.download.hub_client import HubClient
from osa.service.auth.api_keys import make_key
from osa.service.cli import main
from tests.command_process import run_command
from tests.conftest import ArtifactMaker, make_tiny_model
from tests.hub_server import Hub, running_hub

HEAVY = ("torch", "fastapi", "onnx")


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a model, for this process and for those that it starts."""
    cache = tmp_path / "cache"
    with running_hub() as hub:
        hub.add("acme/small").publish_directory(tiny_checkpoint)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        bound = functools.partial(HubClient, hub.url, cache)
        monkeypatch.setattr("osa.model.download.models.HubClient", bound)
        yield hub


def test_every_command_that_runs_a_model_takes_a_reference(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osa.export.parity.reference.user_cache", lambda: None)
    (tmp_path / "texts.txt").write_text("the cat\na dog\n")
    texts, vectors = str(tmp_path / "texts.txt"), str(tmp_path / "vectors.parquet")
    artifact = str(tmp_path / "artifact")
    for command in (
        ["inspect", "hf:acme/small"],
        ["verify", "hf:acme/small@main"],
        ["embed", texts, "--output", vectors, "--model", "hf:acme/small"],
        ["export", "--format", "onnx", "--output", artifact, "--model", "hf:acme/small"],
        ["verify", artifact],
    ):
        assert main(command) == 0, command
        told = capsys.readouterr()
        if "hf:acme/small" in command:
            assert "hf:acme/small is commit " in told.err
    assert len([path for _, path, _ in hub.asked if "/revision/" in path]) == 1


def test_an_onnx_artifact_of_the_hub_is_verified(
    hub: Hub, make_artifact: ArtifactMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files are links in the hub's cache."""
    hub.add("acme/graph").publish_directory(make_artifact("onnx"))
    assert main(["verify", "hf:acme/graph"]) == 0, capsys.readouterr().err
    assert "gives its source's vectors" in capsys.readouterr().out


def test_a_sentence_encoder_of_the_hub_gives_its_own_vectors(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    import pyarrow.parquet
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    from tests.transformer_models import make

    make(tmp_path / "bert", "bert")
    modules = [Transformer(str(tmp_path / "bert")), Pooling(32, "cls"), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save_pretrained(str(tmp_path / "encoder"))
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(b"a pickle beside")
    (tmp_path / "encoder" / "modeling.py").write_text("raise SystemExit(1)")
    hub.add("acme/encoder").publish_directory(tmp_path / "encoder")
    texts = ["A man is playing a guitar.", "Stocks fell."]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    output = tmp_path / "vectors.parquet"
    command = ["embed", str(tmp_path / "texts.txt"), "--output", str(output)]
    options = ["--model", "hf:acme/encoder", "--set", "model.dtype=float32"]
    assert main([*command, *options]) == 0, capsys.readouterr().err
    found = pyarrow.parquet.read_table(output).column("embedding").to_pylist()
    np.testing.assert_allclose(np.array(found), theirs.encode(texts), atol=1e-5)
    names = {path.rpartition("/")[2] for _, path, _ in hub.asked}
    assert "1_Pooling" in str(hub.asked)
    assert not names & {"pytorch_model.bin", "modeling.py", "README.md"}


def test_download_prints_the_directory(hub: Hub) -> None:
    done = run_command("download", "hf:acme/small")
    assert (done.code, done.imported(*HEAVY)) == (0, set())
    assert (Path(done.out.strip()) / "manifest.json").is_file()
    assert "downloading hf:acme/small from " in done.errors


@pytest.mark.parametrize(
    "arguments",
    [
        "serve --model {}",
        "serve --set model.others=law={}",
        "embed texts.txt --output x.parquet --model {}",
        "export --format onnx --output x --model {}",
        "verify {}",
        "download {}",
    ],
)
def test_what_cannot_be_had_is_told_without_torch(hub: Hub, tmp_path: Path, arguments: str) -> None:
    (tmp_path / "texts.txt").write_text("a cat\n")
    done = run_command(*arguments.format("hf:acme/none").split(), cwd=tmp_path)
    assert f"osa: hf:acme/none: {hub.url} has no such model" in done.errors
    assert (done.code, done.imported(*HEAVY)) == (1, set())
    done = run_command(*arguments.format("hf:small").split(), cwd=tmp_path)
    assert "is written hf:ORG/NAME or hf:ORG/NAME@REVISION" in done.errors
    assert (done.code, done.imported(*HEAVY)) == (2, set())


def test_a_missing_package_is_told_with_the_command(hub: Hub) -> None:
    done = run_command("serve", "--model", "hf:acme/small", hidden=("huggingface_hub",))
    assert "osa: hf:acme/small needs huggingface_hub: pip install 'osa-encoder[hub]'" in done.errors
    assert (done.code, done.imported(*HEAVY)) == (2, set())
    assert hub.asked == []


def test_offline_without_a_record_is_told(hub: Hub) -> None:
    done = run_command("serve", "--model", "hf:acme/small", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids to download it: unset that, or copy the cache" in done.errors
    assert (done.code, hub.asked) == (1, [])
    done = run_command("serve", "--model", "hf:acme/small", "--refresh", HF_HUB_OFFLINE="1")
    assert "--refresh (model.refresh) asks the hub, which HF_HUB_OFFLINE forbids" in done.errors
    assert (done.code, hub.asked) == (1, [])


def test_offline_a_missing_file_is_named(hub: Hub) -> None:
    directory = Path(run_command("download", "hf:acme/small").out.strip())
    (directory / "tokenizer.json").unlink()
    done = run_command("download", "hf:acme/small", HF_HUB_OFFLINE="1")
    assert f"{directory} misses tokenizer.json, and hf:acme/small: it is not in " in done.errors
    assert done.code == 1


def test_a_local_directory_is_asked_for_where_one_is_needed(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ranges are written into the checkpoint: not into the hub's cache."""
    command = ["calibrate", "--model", "hf:acme/small", "--texts", str(tmp_path / "texts.txt")]
    assert main(command) == 2
    assert "'osa download hf:acme/small' makes one" in capsys.readouterr().err


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
from osa.service.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_cache_that_takes_no_more_is_told(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, "download", "hf:acme/small"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert f"cannot write to the cache {tmp_path / 'cache'} (File too large): make room" in (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "osa.service.cli", "download", "hf:acme/small"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_models_are_exchanged_for_one_of_the_hub(
    hub: Hub, serve: Callable[..., httpx.Client], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    make_tiny_model(hidden_size=32, matryoshka_dims=(32,)).save_pretrained(tmp_path / "wide")
    hub.add("acme/wide").publish_directory(tmp_path / "wide")
    secret, entry = make_key("operator", None, admin=True)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(
        model__path=tiny_checkpoint, model__name="tiny", auth__keys_file=tmp_path / "keys.toml"
    )
    client.headers["authorization"] = f"Bearer {secret}"
    refused = client.post("/admin/models/tiny", json={"path": "hf:acme/none"})
    assert refused.status_code == 422
    assert "nothing has changed: hf:acme/none: " in json.dumps(refused.json())
    changed = client.post("/admin/models/tiny", json={"path": "hf:acme/wide"})
    assert changed.status_code == 200, changed.text
    assert len(client.post("/embed", json={"inputs": "a cat"}).json()[0]) == 32
