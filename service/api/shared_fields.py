"""Fields and JSON schemas that request bodies of several routes share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from osa.service.inference.request import EmbedOptions

TEXT_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 1}
TEXTS_SCHEMA: dict[str, Any] = {"type": "array", "minItems": 1, "items": TEXT_SCHEMA}
ID_SCHEMA = {"type": "integer", "minimum": 0}
IDS_SCHEMA: dict[str, Any] = {"type": "array", "minItems": 1, "items": ID_SCHEMA}
MIXED_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [TEXT_SCHEMA, IDS_SCHEMA]},
}
INPUTS_SCHEMA: dict[str, Any] = {"anyOf": [TEXT_SCHEMA, IDS_SCHEMA, MIXED_SCHEMA]}
INFINITE = float.fromhex("0x1.ffffffp127")
"""The least number that float32 has not; smaller ones are rounded to its largest."""
NUMBER_SCHEMA = {"type": "number", "exclusiveMinimum": -INFINITE, "exclusiveMaximum": INFINITE}
FEATURES_SCHEMA: dict[str, Any] = {
    "title": "Features",
    "description": "One sequence: feature vectors, feature_size numbers each.",
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": NUMBER_SCHEMA},
}
SEQUENCES_SCHEMA = {
    "title": "Features of several sequences",
    "type": "array",
    "minItems": 1,
    "items": FEATURES_SCHEMA,
}
MODEL_INPUTS_SCHEMA: dict[str, Any] = {
    "anyOf": [*INPUTS_SCHEMA["anyOf"], FEATURES_SCHEMA, SEQUENCES_SCHEMA]
}
TEXT_OR_TEXTS_SCHEMA: dict[str, Any] = {"anyOf": [TEXT_SCHEMA, TEXTS_SCHEMA]}
DECODED_SCHEMA: dict[str, Any] = {
    "anyOf": [
        IDS_SCHEMA,
        {"type": "array", "minItems": 1, "items": {"type": "array", "items": ID_SCHEMA}},
    ]
}
DOCUMENTS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        ]
    },
}
"""What may be given, in JSON Schema; routes check it themselves, to say which item is wrong."""


DIMENSIONS = (
    "Leading dimensions to return, normalised again; /info says whether any number is answered, "
    "and which the model was trained for."
)
DIMENSIONS_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
WHOLE_BYTES_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 8, "multipleOf": 8}, {"type": "null"}]
}
PARSE_SPECIAL = (
    "Whether names of special tokens in texts, such as [SEP], are those tokens; they are text by "
    "default."
)
AS_EMBED = "As for /embed."
MODEL_FIELD = "Name of a served model; anything else means the default one."


def lower_case(value: Any) -> Any:
    """Names are taken in any case."""
    return value.lower() if isinstance(value, str) else value


class FirstFault(FailFast):
    """Validation of a list ends at its first wrong item.

    Otherwise pydantic describes every one, in hundreds of bytes for each of a million. A test looks
    for lists of bodies without this.
    """

    def __hash__(self) -> int:
        """Unions of types need it."""
        return hash(self.fail_fast)


Texts = Annotated[list[str], FirstFault()]
TextOrTexts = str | Texts
Ids = Annotated[list[StrictInt], FirstFault()]
IdRows = Annotated[list[Ids], FirstFault()]


class StrictBody(BaseModel):
    """An object that takes no unknown field; pydantic's own ``forbid`` describes every one."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        known = cls.model_fields
        names = values if isinstance(values, dict) else ()
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise PydanticCustomError(
                "extra_forbidden",
                "Extra inputs are not permitted: {name}; allowed: {known}",
                {"name": str(unknown)[:64], "known": ", ".join(known)},
            )
        return values


class TextParameters(BaseModel):
    """How texts become vectors. Unknown parameters are ignored; null means the default."""

    model_config = ConfigDict(extra="ignore")

    truncate: StrictBool | None = Field(None, description=AS_EMBED)
    truncation_direction: Literal["left", "right"] | None = Field(None, description=AS_EMBED)
    dimensions: StrictInt | None = Field(
        None, description=AS_EMBED, json_schema_extra=DIMENSIONS_SCHEMA
    )
    prompt_name: str | None = Field(None, description=AS_EMBED)
    parse_special_tokens: StrictBool | None = Field(None, description=AS_EMBED)

    _direction = field_validator("truncation_direction", mode="before")(lower_case)

    def options(self) -> EmbedOptions:
        """The use case's options."""
        return EmbedOptions(
            truncate=self.truncate,
            direction=self.truncation_direction or "right",
            dimensions=self.dimensions,
            prompt_name=self.prompt_name,
            parse_special=self.parse_special_tokens is True,
        )


class EmbedParameters(TextParameters):
    """How texts become vectors, whose length may stay."""

    normalize: StrictBool | None = Field(None, description=AS_EMBED)

    def options(self) -> EmbedOptions:
        """The use case's options."""
        return super().options()._replace(normalize=self.normalize is not False)
