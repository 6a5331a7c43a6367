"""The prompts of one model: those that it brings, and those of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from osa.model.errors import ConfigError

if TYPE_CHECKING:  # commands read this module without importing torch
    from osa.model.tokenization import TextTokenizer
    from osa.service.engines.base import EngineInfo
    from osa.service.model_settings import ModelSettings


class Prompts(NamedTuple):
    """Prompts by name, put before texts.

    Attributes:
        by_name: The model's own; of the same name, that of the settings.
        default_name: Of requests that name none; None where nothing is put before their texts.
    """

    by_name: Mapping[str, str]
    default_name: str | None

    @classmethod
    def of(cls, about: EngineInfo, settings: ModelSettings) -> Prompts:
        """Prompts of a model with these settings.

        Raises:
            ConfigError: ``default_prompt_name`` is not one of them.
        """
        by_name = {**about.prompts, **settings.prompts}
        name = settings.default_prompt_name
        if name is None:
            name = about.default_prompt_name
        prompts = cls(by_name, name)
        if name is not None and name not in by_name:
            raise ConfigError(
                f"default_prompt_name must be one of the prompts ({prompts.known}), got {name!r}"
            )
        return prompts

    def check_lengths(self, tokenizer: TextTokenizer, longest: int) -> None:
        """Refuse prompts behind which every text would be cut off.

        Args:
            tokenizer: The model's.
            longest: Longest input, special tokens included [tokens].

        Raises:
            ConfigError: Naming the prompt.
        """
        room = longest - tokenizer.num_special_tokens
        for name, prompt in self.by_name.items():
            length = len(tokenizer.prompt_ids(prompt))
            if length >= room:
                raise ConfigError(
                    f"the prompt {name!r} has {length} tokens, the longest input leaves {room} "
                    "beside special tokens: shorten it, or raise max_input_length"
                )

    @property
    def known(self) -> str:
        """The names that there are, for messages."""
        return ", ".join(sorted(self.by_name)) or "none"

    def find(self, name: str | None) -> str:
        """The prompt of this name, or the default one; empty where there is none.

        Raises:
            KeyError: There is no prompt of this name.
        """
        name = self.default_name if name is None else name
        return "" if name is None else self.by_name[name]
