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


TABLES = """
[model]
dtype = "float32"
prompts = {query = "q: "}
default_prompt_name = "query"
others = {plain = "/models/plain"}

[models."Team/MiniLM-L6.v2"]
path = "/models/minilm"
dtype = "bfloat16"
max_input_length = 256
prompts = {passage = "p: "}
kind = "embedding"

[models.same]
auto_truncate = false
"""


def test_a_table_says_what_differs_from_the_section_of_the_default_model(tmp_path: Path) -> None:
    file = tmp_path / "osa.toml"
    file.write_text(TABLES)
    default, plain, mini, same = load_settings(environment={}, file=file).served()
    assert [own.name for own in (default, plain, mini, same)] == [
        "osa-default", "plain", "Team/MiniLM-L6.v2", "same"
    ]  # fmt: skip
    assert (plain.path, plain.dtype, plain.max_input_length) == (
        Path("/models/plain"),
        "float32",
        None,
    )
    assert (mini.path, mini.dtype, mini.max_input_length) == (
        Path("/models/minilm"),
        "bfloat16",
        256,
    )
    assert mini.prompts == {"passage": "p: "}
    assert mini.default_prompt_name is None, "that of [model] names a prompt of the other model"
    assert (mini.kind, plain.kind) == ("embedding", None)
    assert (same.prompts, same.default_prompt_name) == ({"query": "q: "}, "query")
    assert (same.auto_truncate, default.auto_truncate, same.path) == (False, True, None)


def test_the_table_of_the_default_name_describes_the_default_model() -> None:
    settings = load_settings({"models.a.path": "/a", "models.b.path": "/b", "model.name": "b"}, {})
    assert [(own.name, str(own.path)) for own in settings.served()] == [("b", "/b"), ("a", "/a")]


def test_tables_come_from_the_command_line_over_the_environment_over_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "osa.toml"
    file.write_text(TABLES)
    variable = "OSA_MODELS__TEAM/MINILM-L6.V2__{}".format
    environment = {
        variable("DTYPE"): "float32",
        variable("MAX_INPUT_LENGTH"): "128",
        variable("PROMPTS"): '{"query": "?"}',
        "OSA_MODELS__NEW__PATH": "/models/new",
    }
    overrides = {"models.Team/MiniLM-L6.v2.max_input_length": "64"}
    settings = load_settings(overrides, environment, file)
    assert list(settings.models) == ["Team/MiniLM-L6.v2", "same", "new"]
    mini = settings.named("Team/MiniLM-L6.v2")
    assert (mini.path, mini.dtype, mini.max_input_length) == (Path("/models/minilm"), "float32", 64)
    assert mini.prompts == {"query": "?"}
    assert settings.named("new").path == Path("/models/new")


def test_all_tables_of_one_variable_take_the_place_of_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "osa.toml"
    file.write_text(TABLES)
    environment = {"OSA_MODELS__LAW__DTYPE": "float32", "OSA_MODELS": '{"Law": {"path": "/law"}}'}
    settings = load_settings(environment=environment, file=file)
    assert {name: (str(table.path), table.dtype) for name, table in settings.models.items()} == {
        "Law": ("/law", "float32")
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"models.a.pth": 1}, r"models\.a\.pth: unknown; did you mean models\.a\.path\?"),
        ({"models.a.dtype": "bflot16"}, r"models\.a\.dtype: .*did you mean bfloat16\?"),
        ({"models.a.kind": "emb"}, r"models\.a\.kind: .*got 'emb'; did you mean embedding\?"),
        ({"models.path": "x"}, r"a table of models has a name: models\.NAME\.FIELD"),
        ({"models": {"": {}}}, r"a table of models needs a name"),
        ({"models": {"a b": {}}}, r"a model's name has at most 128 characters"),
        ({"models": {"a\n": {}}}, r"a model's name has at most 128 characters"),
        ({"model.name": "x" * 129}, r"a model's name has at most 128 characters"),
        ({"model.others": "a%b=/x"}, r"a model's name has at most 128 characters"),
        ({"models": "{"}, "models must be JSON, tables by name"),
        ({"models": "[]", "models.a.path": "x"}, "models must be tables by name"),
        ({"models": {"a": 1}}, r"models\.a: "),
        (
            {"models.a.path": "x", "model.others": "a=y"},
            r"models\.a is a name of model\.others too",
        ),
        (
            {"models.a.path": "x", "model.name": "a", "model.path": "y"},
            r"model\.path and models\.a\.path are both set",
        ),
    ],
)
def test_tables_that_cannot_be_stop_the_start(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(overrides, environment={})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OSA_MODELS__A__PTH", "OSA_MODELS__NAME__PATH"),
        ("OSA_MODELS__PATH", "OSA_MODEL__PATH"),
    ],
)
def test_an_unknown_variable_of_a_table_is_told(variable: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}.*did you mean {meant}"):
        load_settings(environment={variable: "1"})


def test_a_prompt_that_the_default_model_brings_is_its_own() -> None:
    overrides = {"model.default_prompt_name": "passage", "models.a.path": "x"}
    more = {"model.others": "b=y", "models.same.dtype": "float32"}
    settings = load_settings({**overrides, **more}, environment={})
    found = {own.name: own.default_prompt_name for own in settings.served()}
    assert found == {"osa-default": "passage", "same": "passage", "a": None, "b": None}
    assert settings.named("new").default_prompt_name is None
    named = load_settings({**overrides, "model.prompts": {"passage": "p: "}}, environment={})
    assert [own.default_prompt_name for own in named.served()] == ["passage", "passage"]
