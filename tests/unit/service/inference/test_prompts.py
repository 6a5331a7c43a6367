"""Prompts of a model: its own, and those of the settings over them."""

from __future__ import annotations

import pytest

from osa.model.errors import ConfigError
from osa.service.engines.base import EngineInfo
from osa.service.inference.prompts import Prompts
from osa.service.model_settings import ModelSettings

ABOUT = EngineInfo(
    "eager", "cpu", "float32", "torch", "osa", "mean", 9, 9, (4,), "", "",
    prompts={"query": "q: ", "passage": ""}, default_prompt_name="passage",
)  # fmt: skip


def settings(**values: object) -> ModelSettings:
    return ModelSettings.model_validate(values)


def test_a_model_brings_prompts_and_a_default() -> None:
    prompts = Prompts.of(ABOUT, settings())
    assert [prompts.find(name) for name in (None, "query", "passage")] == ["", "q: ", ""]
    assert prompts.known == "passage, query"


def test_settings_replace_by_name_and_choose_the_default() -> None:
    prompts = Prompts.of(ABOUT, settings(prompts={"query": "? "}, default_prompt_name="query"))
    assert [prompts.find(name) for name in (None, "query", "passage")] == ["? ", "? ", ""]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError):
        Prompts.of(ABOUT, settings()).find("title")
    with pytest.raises(ConfigError, match=r"one of the prompts \(passage, query\), got 'title'"):
        Prompts.of(ABOUT, settings(default_prompt_name="title"))
