"""Settings of a model: those of the default model, and those of one of several by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from osa.export.formats import FORMATS
from osa.model.config import Task
from osa.model.kernels import KERNELS
from osa.model.processor import INSTRUCTION_SETS
from osa.service.engines.registry import ENGINES

if TYPE_CHECKING:
    from pydantic import ValidationInfo

# names that only the registries know: type checkers cannot read such a Literal
EngineName = Literal["auto", *ENGINES]  # type: ignore[valid-type]
InstructionSet = Literal["auto", *INSTRUCTION_SETS]  # type: ignore[valid-type]
_kernels = dict.fromkeys(["auto", *KERNELS, *(k for f in FORMATS.values() for k in f.kernels)])
KernelName = Literal[*_kernels]  # type: ignore[valid-type]
MAX_NAME = 128
"""Longest name of a model [characters]."""
NAME = r"^[A-Za-z0-9_][A-Za-z0-9._:@+-]*(/[A-Za-z0-9_][A-Za-z0-9._:@+-]*)*$"
RESERVED = ("infer", "ready", "versions")
"""Parts of KServe's paths behind a model's name."""
NAME_RULE = (
    f"a model's name has at most {MAX_NAME} characters: letters, digits and ._:@+- in parts that "
    "begin with a letter, a digit or _, with / between them; no part behind the first is "
    + " or ".join(RESERVED)
)


def check_model_name(name: str) -> str:
    """The name of a model, as URLs, terminals and metrics can show it.

    Raises:
        ValueError: Saying what is allowed.
    """
    shown = len(name) <= MAX_NAME and re.fullmatch(NAME, name)
    if not shown or not set(name.split("/")[1:]).isdisjoint(RESERVED):
        raise ValueError(NAME_RULE)
    return name


class Section(BaseModel):
    """Base of the sections: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFields(Section):
    """Which model runs, how, and under which limits: a table of ``models``.

    A field that such a table does not set has the value of ``[model]``; one that sets ``prompts``
    does not take ``default_prompt_name`` from there, nor does one of another ``path`` where that
    names a prompt which the default model itself brings.
    """

    path: Path | None = Field(
        None,
        description="Checkpoint, artifact, directory of them, packaged:NAME, or "
        "hf:ORG/NAME[@REVISION] of the Hugging Face hub; default is packaged:default.",
    )
    engine: EngineName = Field(
        "auto", description="What runs the model; auto takes the fastest form that runs here."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    kernel: KernelName = Field(
        "auto",
        description="What computes the attention; auto takes the fastest that can. ONNX artifacts: "
        "native or body.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="What a checkpoint computes in; auto takes bfloat16 where the processor "
        "multiplies it natively (AMX, AVX-512 BF16, GPUs), and float16 on GPUs that do not. int8 "
        "is for CPUs with AMX or VNNI: the fastest, and the least exact. Artifacts compute in "
        "what they were exported for.",
    )
    cuda_graphs: bool = Field(
        True, description="On a GPU, launch a checkpoint's kernels as captured graphs."
    )
    fixed_products: bool = Field(
        True,
        description="On a GPU, products of a checkpoint's own kernels, whose bits do not depend "
        "on the batch; false takes those of torch.",
    )
    tf32: bool = Field(
        False, description="On a GPU, let torch's products of float32 round operands to TF32."
    )
    kind: Task | None = Field(
        None, description="What the model must be; another one is refused. Default: whatever it is."
    )
    prompts: dict[str, str] = Field(
        {},
        description="Prompts by name, put before texts, beside those that the model brings; a "
        "table, or JSON.",
    )
    default_prompt_name: str | None = Field(
        None, description="Prompt of requests that name none; default is the model's own, if any."
    )
    max_input_length: int | None = Field(
        None, ge=3, description="Longest input [tokens]; default is the model's own limit."
    )
    auto_truncate: bool = Field(
        True, description="Truncate longer inputs unless a request objects."
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _parse_prompts(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value


class ModelSettings(ModelFields):
    """The default model, and what others have in common with it."""

    name: str = Field(
        "osa-default",
        min_length=1,
        json_schema_extra={"maxLength": MAX_NAME, "pattern": NAME},
        description="Name of the default model for clients and metrics. Of models, the table of "
        "this name describes it.",
    )
    refresh: bool = Field(False, description="Ask the hub again whether an hf: branch has moved.")
    others: dict[str, Path] = Field(
        {}, description="More models by name: a table, name=path,name=path, or JSON."
    )
    instruction_set: InstructionSet = Field(
        "auto",
        description="Best instruction set to use of an x86 processor; auto takes the best that it "
        "has. A lesser one shows what a lesser processor would do (not in ONNX Runtime).",
    )

    @field_validator("others", mode="before")
    @classmethod
    def _parse_others(cls, value: Any, info: ValidationInfo) -> Any:
        """Read JSON, or ``name=path,name=path``."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not (name.strip() and path.strip()) for name, _, path in pairs):
            raise ValueError("must be name=path,name=path")
        return {name.strip(): path.strip() for name, _, path in pairs}

    @model_validator(mode="after")
    def _names(self) -> ModelSettings:
        for name in (self.name, *self.others):
            check_model_name(name)
        if self.name in self.others:
            raise ValueError(f"model.others must not hold {self.name!r}, which is model.name")
        return self

    def named(self, name: str, table: ModelFields | None = None) -> ModelSettings:
        """Settings of one model: those that its table sets, and of ``self`` the rest.

        Args:
            name: Of the model.
            table: Its table of ``models``, if it has one.
        """
        changes: dict[str, Any] = {"name": name}
        same = name == self.name or (table is not None and "path" not in table.model_fields_set)
        if not same and self.default_prompt_name not in self.prompts:
            changes["default_prompt_name"] = None  # a prompt that the default model brings
        if name in self.others:
            changes["path"] = self.others[name]
        if table is not None:
            if "prompts" in table.model_fields_set:
                changes["default_prompt_name"] = None  # it names a prompt of the other model
            changes |= {field: getattr(table, field) for field in table.model_fields_set}
        return self.model_copy(update=changes)
