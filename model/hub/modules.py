"""What sentence-transformers keeps beside a transformer: modules, prompts, longest input.

Source: its ``modules.json``, ``1_Pooling/config.json``, ``config_sentence_transformers.json`` and
``sentence_bert_config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from osa.model.errors import CheckpointError, UnsupportedModelError
from osa.model.hub.files import ModelFiles

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last", "weightedmean": "weighted"}
"""Modes of sentence-transformers, as ``EncoderConfig.pooling``."""
OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "GELU": "gelu",
    "ReLU": "relu",
    "SiLU": "silu",
}
"""Classes of torch, as ``EncoderConfig.embedding_activation``."""
LIBRARY = "sentence_transformers."
LIMITS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Names of the transformer's settings, old ones included; the library reads the first it finds."""
Kind = Literal["embedding", "sparse", "classifier", "transformer"]
KINDS: dict[str, tuple[Kind, ...]] = {
    "SentenceTransformer": ("embedding", "transformer", "sparse"),
    "CrossEncoder": ("classifier",),
    "SparseEncoder": ("sparse",),
}
"""What a model of each class of the library can be here."""


class Dense(NamedTuple):
    """A layer after pooling: its folder, and its non-linearity as ``HeadConfig.activation``."""

    folder: str
    activation: str


class Modules(NamedTuple):
    """The modules of a directory.

    Attributes:
        kind: What they make of the transformer; ``transformer`` where there is no ``modules.json``.
        folder: Of the transformer.
        pooling: As ``EncoderConfig.pooling``.
        dense: A layer after pooling, or None.
        prompts: Texts by name, put before inputs.
        default_prompt_name: Of inputs for which none is named.
        max_length: Longest input [tokens]; None for the transformer's own.
        lower_case: Whether texts are put in lower case first.
        tokenizer: Settings of ``tokenizer_config.json``, which go before ``tokenizer.json``.
    """

    kind: Kind
    folder: str = ""
    pooling: str = "mean"
    dense: Dense | None = None
    prompts: Mapping[str, str] = {}
    default_prompt_name: str | None = None
    max_length: int | None = None
    lower_case: bool = False
    tokenizer: Mapping[str, Any] = {}


def read_modules(files: ModelFiles) -> Modules:
    """The modules of a directory.

    Raises:
        CheckpointError: A file that is damaged, or a module that needs code of its own.
        UnsupportedModelError: Modules that our models have not.
    """
    listed = files.json_list("modules.json")
    settings = files.json_object("config_sentence_transformers.json")
    chain = [(_class_of(item, files), _folder_of(item, files)) for item in listed]
    if not chain:
        return _with_settings(Modules("transformer"), files, settings)
    (first, folder), *rest = chain
    if first not in ("Transformer", "MLMTransformer"):
        raise UnsupportedModelError(f"{files.directory} begins with the module {first}")
    found = Modules("classifier", folder) if not rest else Modules("embedding", folder)
    normalized = False
    for name, path in rest:
        if name == "Dense" and normalized:
            raise UnsupportedModelError(f"{files.directory} normalises before its Dense module")
        normalized |= name == "Normalize"
        if name == "Pooling":
            found = found._replace(pooling=_pooling(files, path))
        elif name == "Dense" and found.dense is None:
            found = found._replace(dense=_dense(files, path))
        elif name == "SpladePooling":
            _check_splade(files, path)
            found = found._replace(kind="sparse")
        elif name != "Normalize":
            again = "a second " if name == "Dense" else ""
            raise UnsupportedModelError(f"{files.directory} has {again}module {name}")
    made = str(settings.get("model_type", "SentenceTransformer"))
    if made == "SentenceTransformer" and not rest:
        found = found._replace(kind="transformer")
    if found.kind not in KINDS.get(made, ()):
        raise UnsupportedModelError(f"{files.directory} is a {made} of other modules than ours")
    return _with_settings(found, files, settings)


def _class_of(item: Mapping[str, Any], files: ModelFiles) -> str:
    """Name of a module's class.

    Raises:
        CheckpointError: It is not one of sentence-transformers.
    """
    name = str(item.get("type", ""))
    if not name.startswith(LIBRARY):
        raise CheckpointError(
            f"{files.directory} needs code of its own (modules.json: {name[:80]}), which is never "
            "run: serve a model of standard modules"
        )
    return name.rpartition(".")[2]


def _folder_of(item: Mapping[str, Any], files: ModelFiles) -> str:
    """Folder of a module.

    Raises:
        CheckpointError: It is outside of the directory.
    """
    path = str(item.get("path") or "")
    wrong = path.startswith("/") or "\0" in path or ".." in Path(path).parts
    root = files.directory.resolve()
    if wrong or not (root / path).resolve().is_relative_to(root):  # links too
        raise CheckpointError(
            f"{files.directory}: modules.json names {path!r}, outside of the directory, which is "
            "never read: copy the module into the directory"
        )
    return path


def _pooling(files: ModelFiles, path: str) -> str:
    where = f"{path}/config.json"
    values = files.json_object(where, required=True)
    if values.get("include_prompt") is False:
        raise UnsupportedModelError(f"{files.directory / where}: prompts are left out of pooling")
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [mode for name, mode in OLD_POOLINGS.items() if values.get(name)] or ["mean"]
    chosen = list(map(str, modes)) if isinstance(modes, list) else [str(modes)]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise UnsupportedModelError(
            f"{files.directory / where}: pooling is {' and '.join(chosen)}; ours are "
            f"{', '.join(POOLINGS)}"
        )
    return POOLINGS[chosen[0]]


def _dense(files: ModelFiles, path: str) -> Dense:
    where = f"{path}/config.json"
    values = files.json_object(where, required=True)
    name = str(values.get("activation_function", "torch.nn.modules.activation.Tanh"))
    kind = name.rpartition(".")[2]
    token_wise = values.get("module_input_name", "sentence_embedding") != "sentence_embedding"
    if kind not in ACTIVATIONS or values.get("use_residual") or token_wise:
        raise UnsupportedModelError(
            f"{files.directory / where}: our projection has no {name}, residual or layer of tokens"
        )
    return Dense(path, ACTIVATIONS[kind])


def _check_splade(files: ModelFiles, path: str) -> None:
    where = f"{path}/config.json"
    values = files.json_object(where, required=True)
    modes = (values.get("pooling_strategy", "max"), values.get("activation_function", "relu"))
    if modes != ("max", "relu"):
        raise UnsupportedModelError(f"{files.directory / where}: pooling by {' of '.join(modes)}")


def _with_settings(modules: Modules, files: ModelFiles, settings: Mapping[str, Any]) -> Modules:
    """``modules`` with prompts and limits of the library's other files."""
    prompts = settings.get("prompts")
    texts = {
        str(name): text
        for name, text in (prompts.items() if isinstance(prompts, dict) else ())
        if isinstance(text, str) and text
    }
    default = settings.get("default_prompt_name")
    folder = f"{modules.folder}/" if modules.folder else ""
    limits = _first(files, "") | (_first(files, folder) if folder else {})
    config = _merged(limits, "config_kwargs", "config_args")
    if changed := sorted(set(config) - {"trust_remote_code"}):
        raise UnsupportedModelError(
            f"{files.directory / folder}: settings of sentence-transformers change {changed[0]} of "
            "config.json"
        )
    tokenizer = files.json_object(f"{folder}tokenizer_config.json")
    tokenizer |= _merged(limits, "processor_kwargs", "tokenizer_args")
    # as the library: its own limit goes before the tokenizer's
    lengths = [
        int(length)
        for length in (limits.get("max_seq_length"), tokenizer.get("model_max_length"))
        if isinstance(length, int | float) and 2 < length < 1 << 24
    ]
    return modules._replace(
        prompts=texts,
        default_prompt_name=default if isinstance(default, str) and default in texts else None,
        max_length=lengths[0] if lengths else None,
        lower_case=limits.get("do_lower_case") is True,
        tokenizer=tokenizer,
    )


def _first(files: ModelFiles, folder: str) -> dict[str, Any]:
    """The transformer's settings in a folder; empty where there are none."""
    return next(filter(None, (files.json_object(folder + name) for name in LIMITS)), {})


def _merged(limits: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Arguments of one kind, by their newer and older names."""
    found: dict[str, Any] = {}
    for name in names:
        values = limits.get(name)
        found |= values if isinstance(values, dict) else {}
    return found
