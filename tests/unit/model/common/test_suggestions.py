"""The closest known name, or none."""

from __future__ import annotations

import pytest

from osa.model.common.suggestions import did_you_mean, field_names
from osa.service.model_settings import ModelFields
from osa.service.settings import Settings

NAMES = ["server.port", "server.host", "batching.max_batch_tokens", "batching.max_batch_requests"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("server.prot", "server.port"),
        ("SERVER.PORT", "server.port"),
        ("port", "server.port"),
        ("model.port", "server.port"),
        ("batching.max_batch_token", "batching.max_batch_tokens"),
        ("batching.max_batch_r", "batching.max_batch_requests"),
    ],
)
def test_what_is_close_is_suggested(name: str, meant: str) -> None:
    assert did_you_mean(name, NAMES) == f"; did you mean {meant}?"


@pytest.mark.parametrize("name", ["", "x", "colour.of_the_sky"])
def test_what_is_not_close_is_not(name: str) -> None:
    assert did_you_mean(name, NAMES) == ""
    assert did_you_mean(name, []) == ""


def test_every_setting_has_a_name() -> None:
    names = list(field_names(Settings))
    assert len(names) == len(set(names))
    assert {"server.port", "auth.keys_file", "cache.max_bytes"} <= set(names)
    settings = Settings().model_dump()
    tables = [f"models.NAME.{field}" for field in ModelFields.model_fields]
    assert [name for name in names if name.startswith("models.")] == tables
    assert [name for name in names if name not in tables] == [
        f"{section}.{field}" for section in settings for field in settings[section]
    ]
