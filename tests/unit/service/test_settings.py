"""Settings: precedence, strictness, and contradictions that stop the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.service.settings import load_settings


def test_defaults_are_the_contract() -> None:
    settings = load_settings(environment={})
    assert settings.server.port == 8080
    assert settings.server.max_concurrent_requests == 512
    assert settings.server.payload_limit == 2_000_000
    assert settings.batching.max_client_batch_size == 2048
    assert settings.model.auto_truncate


def test_command_line_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "osa.toml"
    file.write_text("[server]\nport = 1\nhost = 'file'\nkeep_alive_s = 9\n")
    environment = {
        "OSA_SERVER__PORT": "2",
        "OSA_SERVER__HOST": "environment",
        "OSA_CONFIG": str(file),
        "PATH": "/bin",
    }
    server = load_settings({"server.port": "3"}, environment).server
    assert (server.port, server.host, server.keep_alive_s) == (3, "environment", 9)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OSA_PORT": "tcp://10.0.0.1:80"}, "OSA_PORT.*enableServiceLinks: false"),
        (
            {"OSA_SERVER__PROT": "1"},
            "unknown environment variable OSA_SERVER__PROT.*did you mean OSA_SERVER__PORT",
        ),
        ({"OSA_MAX_BATCH_TOKENS": "1"}, "did you mean OSA_BATCHING__MAX_BATCH_TOKENS"),
        ({"OSA_SERVER__PORT": "http"}, "server.port: .*integer"),
        ({"OSA_SERVER__PORT": "70000"}, "server.port: .*65535"),
        ({"OSA_LOG__FORMAT": "xml"}, "log.format"),
        ({"OSA_CONFIG": "nowhere.toml"}, "cannot read nowhere.toml"),
    ],
)
def test_what_means_nothing_stops_the_start(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(environment=environment)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"batching.max_batch_tokens": 100, "model.max_input_length": 101},
            "no batch could hold the longest input",
        ),
        ({"server.drain_timeout_s": "inf"}, "server.drain_timeout_s: .*finite"),
        ({"batching.max_queue_tokens": 100}, "the queue could not fill a batch"),
        ({"server.prot": 1}, r"server.prot: unknown; did you mean server\.port\?"),
        ({"sever.port": 1}, r"sever: unknown; did you mean server\.port\?"),
        ({"surprise.field_of_mine": 1}, "surprise: unknown$"),
        ({"model.engine": "onnx"}, r"got 'onnx'; did you mean onnxruntime\?"),
        ({"log.level": "inof"}, r"got 'inof'; did you mean info\?"),
    ],
)
def test_contradictions_stop_the_start(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(overrides, environment={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("port = ", "osa.toml is not TOML"),
        ("server = 1", "server must be a section"),
        ("max_batch_tokens = 1", r"did you mean batching\.max_batch_tokens\?"),
        ("[sever]\nport = 1", r"did you mean server\.port\?"),
        ("[batching]\nmax_batch_token = 1", r"did you mean batching\.max_batch_tokens\?"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "osa.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_settings(environment={}, file=file)
