"""A directory of transformers or sentence-transformers as a ``Checkpoint`` of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from osa.model.checkpoint import Checkpoint, check_room
from osa.model.common.directories import CONFIG, TOKENIZER
from osa.model.config import EncoderConfig, HeadConfig
from osa.model.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    UnsupportedModelError,
)
from osa.model.hub.architectures import ARCHITECTURES, OWN_CODE, Architecture, Values
from osa.model.hub.files import ModelFiles, check_complete
from osa.model.hub.heads import take_classifier, take_sparse
from osa.model.hub.modules import Modules, read_modules
from osa.model.hub.names import Source, fold_token_types, take_encoder
from osa.model.hub.tokenizer import with_settings
from osa.model.tokenization import TextTokenizer

CLASSIFICATION = "ForSequenceClassification"


def read_model(directory: Path, *, whole_length: bool = False) -> Checkpoint:
    """Read a model of transformers or sentence-transformers as it lies; no code of it runs.

    Args:
        directory: With ``config.json``, or ``modules.json``.
        whole_length: Read all positions that the transformer has, whatever limit
            sentence-transformers has for its inputs.

    Raises:
        CheckpointError: A file that is missing or damaged, weights in a pickle, or a model that
            needs code of its own.
        UnsupportedModelError: An architecture or a module that our models have not.
    """
    files = ModelFiles(directory)
    modules, values, architecture = _describe(files)
    if whole_length:
        modules = modules._replace(max_length=None)
    tokenizer = _tokenizer(files, modules, values)
    source = Source(files.weights(modules.folder), str(directory / modules.folder))
    for prefix in architecture.prefixes:
        if source.has(f"{prefix}{architecture.names.embed}.weight"):
            source.strip(prefix)
            break
    try:
        fields, weights = _model(files, modules, values, architecture, source)
        config = EncoderConfig.from_dict(fields)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{directory / modules.folder / CONFIG}: {error}") from error
    if tokenizer.vocab_size > (config.vocab_size or 0):
        raise CheckpointError(
            f"{directory / TOKENIZER} has {tokenizer.vocab_size} ids, the model embeds "
            f"{config.vocab_size}"
        )
    check_room(config.max_seq_len, tokenizer, directory / modules.folder / CONFIG)
    return Checkpoint(
        config,
        weights,
        tokenizer,
        files.sha256(),
        prompts=modules.prompts,
        default_prompt_name=modules.default_prompt_name,
    )


def unsupported(directory: Path) -> str | None:
    """Why our encoder cannot run a directory's model, by its JSON files; None where it can.

    Raises:
        CheckpointError: A file that is missing or damaged, or a model that needs code of its own.
    """
    try:
        _describe(ModelFiles(directory))
    except UnsupportedModelError as error:
        return str(error)
    return None


def _describe(files: ModelFiles) -> tuple[Modules, Values, Architecture]:
    modules = read_modules(files)
    folder = files.directory / modules.folder
    check_complete(folder)
    name = f"{modules.folder}/{CONFIG}" if modules.folder else CONFIG
    raw = files.json_object(name, required=True)
    values = Values(raw, str(folder / CONFIG))
    model_type = values.get("model_type", "")
    if model_type not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{folder / CONFIG}: our encoder has no model type {model_type!r}; it runs "
            f"{', '.join(ARCHITECTURES)}"
        )
    if values.mapping("quantization_config"):
        values.unsupported("quantised weights (quantization_config)")
    architecture = ARCHITECTURES[model_type](values)
    described = model_type in OWN_CODE or architecture.fields["positions"] == "alibi"
    if values.mapping("auto_map") and not described:
        raise CheckpointError(
            f"{folder / CONFIG} names code of the model's own (auto_map), which is never run: if "
            f"its layers are those of transformers' {model_type}, delete auto_map from the file, "
            "otherwise serve another model"
        )
    if modules.kind == "sparse" and architecture.sparse is None:
        raise UnsupportedModelError(f"{folder / CONFIG}: no sparse head of {model_type} is read")
    if modules.kind == "classifier" and not _classifies(values):
        raise UnsupportedModelError(f"{folder / CONFIG}: a CrossEncoder that is no classifier")
    return modules, values, architecture


def _tokenizer(files: ModelFiles, modules: Modules, values: Values) -> TextTokenizer:
    own = files.directory / modules.folder / TOKENIZER
    folder = modules.folder if own.is_file() else ""
    if modules.tokenizer.get("truncation_side") == "left":
        raise UnsupportedModelError(
            f"{files.directory} cuts long texts on the left (truncation_side), ours are cut on the "
            "right unless a request says truncation_direction: set truncation_side to right"
        )
    try:
        kind, most = values.get("model_type", ""), values.get("vocab_size", 0)
        content = with_settings(files.tokenizer(folder), modules.tokenizer, kind)
        tokenizer = TextTokenizer.from_json(content, most or None)
    except InputError as error:
        raise CheckpointError(f"{files.directory / folder / TOKENIZER} {error}") from error
    if modules.lower_case and tokenizer.encode(["A"])[0].ids != tokenizer.encode(["a"])[0].ids:
        raise UnsupportedModelError(f"{files.directory} puts texts in lower case beforehand")
    return tokenizer


def _model(
    files: ModelFiles,
    modules: Modules,
    values: Values,
    architecture: Architecture,
    source: Source,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fields of the configuration, and weights by our names.

    Args:
        files: The directory.
        modules: What follows the transformer.
        values: Of ``config.json``.
        architecture: Of the transformer.
        source: Its tensors.
    """
    fields = dict(architecture.fields)
    if modules.max_length is not None:
        fields["max_seq_len"] = min(fields["max_seq_len"], modules.max_length)
    names = architecture.names
    if architecture.token_types < 1:
        names = names._replace(token_types="")
    positions = fields["max_seq_len"] if names.positions else None
    encoder = take_encoder(source, names, fields["num_layers"])
    if positions is not None:
        encoder["positions.weight"] = encoder["positions.weight"][:positions].clone()
    head: dict[str, Tensor] = {}
    if modules.kind == "sparse":
        assert architecture.sparse is not None  # checked by _describe
        config, head = take_sparse(source, architecture, encoder["embed.weight"])
        fields["head"] = config
    elif modules.kind in ("classifier", "transformer") and _classifies(values):
        config, head = take_classifier(source, architecture, values)
        fields |= {"head": config, "pooling": architecture.pooling}
    else:
        fields["pooling"] = modules.pooling
        if modules.dense is not None:
            more, head = _projection(files, modules)
            fields |= more
    kept = architecture.token_types > 1 and isinstance(fields.get("head"), HeadConfig)
    if kept and fields["head"].kind == "classifier":  # pairs of texts have two token types
        fields["token_types"] = architecture.token_types
    else:
        fold_token_types(encoder)
    unused = ("pooler.", "cls.", "lm_head.", "head.", "decoder.", "vocab_", *names.unused)
    others = ("classifier.", "pre_classifier.", "qa_outputs.")  # heads of other tasks
    source.check_rest((*unused, *others) if fields.get("head") is None else unused)
    if "head" not in fields and (dims := values.integers("matryoshka_dimensions")):
        width = fields.get("embedding_size", fields["hidden_size"])
        smaller = sorted({dim for dim in dims if 0 < dim < width}, reverse=True)
        fields["matryoshka_dims"] = (width, *smaller)
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    return fields, weights | head


def _classifies(values: Values) -> bool:
    return any(name.endswith(CLASSIFICATION) for name in values.strings("architectures"))


def _projection(files: ModelFiles, modules: Modules) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fields and weights of a Dense module.

    Raises:
        CheckpointError: Its weights are missing.
    """
    assert modules.dense is not None  # the caller looks
    tensors = files.weights(modules.dense.folder)
    weight = tensors.get("linear.weight")
    if weight is None or weight.dim() != 2:
        raise CheckpointError(f"{files.directory / modules.dense.folder} misses linear.weight")
    fields = {
        "embedding_size": len(weight),
        "embedding_dense": True,
        "embedding_bias": "linear.bias" in tensors,
        "embedding_activation": modules.dense.activation,
    }
    weights = {"projection.weight": weight}
    if "linear.bias" in tensors:
        weights["projection.bias"] = tensors["linear.bias"]
    return fields, {name: tensor.to(torch.float32) for name, tensor in weights.items()}
