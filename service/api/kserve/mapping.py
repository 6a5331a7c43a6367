"""Tensors of the Open Inference Protocol as inputs and options. Pure functions.

A model takes ``text`` (BYTES, [n] or [n, 1]), or ``input_ids`` (INT64, [n, t]) with an
``attention_mask`` of that shape where rows are padded; a feature model takes ``features`` and
``lengths`` (see ``feature_tensors``). Both give ``embedding`` (FP32, [n, E]). A classifier or
reranker gives ``logits`` (FP32, [n, K]), and takes ``text_pair`` beside ``text``; a sparse model
gives ``weights`` (FP32, [n, V]).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osa.model.common.widths import takes_any_width
from osa.model.config import Task
from osa.service.api.kserve.binary_tensors import (
    divide,
    read_floats,
    read_integers,
    read_strings,
)
from osa.service.api.kserve.feature_tensors import FEATURES, LENGTHS, split_features
from osa.service.api.kserve.schemas import (
    InferRequest,
    InputTensor,
    ModelFacts,
    ModelMetadata,
    TensorMetadata,
)
from osa.service.api.parsing import check_texts
from osa.service.errors import EmptyInputError, ValidationError
from osa.service.inference.request import Inputs, Pair
from osa.service.inference.tasks import LABELLING
from osa.service.models.served_model import ServedModel

VERSION = "1"
TEXT, PAIR, IDS, MASK = "text", "text_pair", "input_ids", "attention_mask"
OUTPUTS: dict[Task, str] = {
    "embedding": "embedding",
    "classifier": "logits",
    "reranker": "logits",
    "sparse": "weights",
}
TOKEN_INPUTS, FEATURE_INPUTS = (TEXT, PAIR, IDS, MASK), (FEATURES, LENGTHS)
DATATYPES = {
    TEXT: "BYTES", PAIR: "BYTES", IDS: "INT64", MASK: "INT64", FEATURES: "FP32", LENGTHS: "INT64",
}  # fmt: skip
SHAPES = {
    TEXT: "[n] or [n, 1]", PAIR: "[n] or [n, 1]", IDS: "[n, t]", MASK: "[n, t]",
    FEATURES: "[N, F] or [S, N, F]", LENGTHS: "[S]",
}  # fmt: skip
RANKS = {TEXT: (1, 2), PAIR: (1, 2), IDS: (2,), MASK: (2,), FEATURES: (2, 3), LENGTHS: (1,)}


def describe_model(model: ServedModel) -> ModelMetadata:
    """Tensors and facts of a model."""
    inputs: list[TensorMetadata] = []
    if model.embedder.tokenizer is not None:
        names = (TEXT, PAIR) if model.about.task in LABELLING else (TEXT,)
        inputs += [TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in names]
    if model.about.vocab_size is not None:
        for tensor in (IDS, MASK):
            inputs.append(TensorMetadata(name=tensor, datatype="INT64", shape=[-1, -1]))
    if model.about.feature_size is not None:
        shape = [-1, model.about.feature_size]
        inputs.append(TensorMetadata(name=FEATURES, datatype="FP32", shape=shape))
        inputs.append(TensorMetadata(name=LENGTHS, datatype="INT64", shape=[-1]))
    width = model.about.dimensions[0]
    return ModelMetadata(
        name=model.name,
        versions=[VERSION],
        platform=f"osa_{model.about.backend}",
        inputs=inputs,
        outputs=[
            TensorMetadata(name=OUTPUTS[model.about.task], datatype="FP32", shape=[-1, width])
        ],
        parameters=ModelFacts(
            kind=model.about.task,
            dtype=model.about.dtype,
            dimensions=list(model.about.dimensions),
            any_dimension=takes_any_width(model.about.dimensions),
            max_input_length=model.embedder.max_input_length,
        ),
    )


def check_outputs(body: InferRequest, output: str) -> None:
    """Refuse outputs other than the model's own, ``output``.

    Raises:
        ValidationError: An unknown output, or one named twice.
    """
    names = [output.name for output in body.outputs or []]
    for name in names:
        if name != output:
            raise ValidationError(
                f"unknown output {name[:64]!r}; allowed: {output}", param="outputs"
            )
    if len(names) > 1:
        raise ValidationError(f"output {output} is named {len(names)} times", param="outputs")


def read_inputs(
    tensors: list[InputTensor], tail: memoryview, feature_size: int | None = None
) -> Inputs:
    """Texts, pairs of texts or ids of a request; features where the model takes them.

    Args:
        tensors: Its input tensors.
        tail: The bytes behind the JSON.
        feature_size: F of a feature model; None for a token model.

    Raises:
        EmptyInputError: Nothing to embed.
        ValidationError: Other tensors, types, shapes or sizes than those of the model.
    """
    sizes = [
        None if tensor.parameters is None else tensor.parameters.binary_data_size
        for tensor in tensors
    ]
    by_name: dict[str, tuple[InputTensor, Any]] = {}
    allowed = TOKEN_INPUTS if feature_size is None else FEATURE_INPUTS
    for tensor, part in zip(tensors, divide(tail, sizes), strict=True):
        check_tensor(tensor, part, allowed)
        if tensor.name in by_name:
            raise ValidationError(f"input {tensor.name} is given twice", param="inputs")
        by_name[tensor.name] = (tensor, tensor.data if part is None else part)
    if feature_size is not None:
        return _read_features(by_name, feature_size)
    if set(by_name) == {TEXT}:
        tensor, data = by_name[TEXT]
        texts = read_strings(data, tensor.shape, TEXT)
        check_texts(texts, TEXT)
        return texts
    if set(by_name) == {TEXT, PAIR}:
        firsts, seconds = (
            read_strings(by_name[name][1], by_name[name][0].shape, name) for name in (TEXT, PAIR)
        )
        return pair_texts(firsts, seconds)
    if not {IDS} <= set(by_name) <= {IDS, MASK}:
        raise ValidationError(
            f"inputs must be {TEXT}, with {PAIR} for pairs, or {IDS} with or without {MASK}, got "
            f"{' and '.join(sorted(by_name)) or 'none'}",
            param="inputs",
        )
    tensor, data = by_name[IDS]
    ids = read_integers(data, tensor.shape, IDS)
    if MASK not in by_name:
        rows: list[list[int]] = ids.tolist()
        return rows
    tensor, data = by_name[MASK]
    return remove_padding(ids, read_integers(data, tensor.shape, MASK))


def _read_features(
    by_name: dict[str, tuple[InputTensor, Any]], feature_size: int
) -> list[np.ndarray]:
    """Sequences of ``features``, divided as ``lengths`` says."""
    if FEATURES not in by_name:
        raise ValidationError(
            f"inputs must be {FEATURES} with or without {LENGTHS}, got "
            f"{' and '.join(sorted(by_name)) or 'none'}",
            param="inputs",
        )
    tensor, data = by_name[FEATURES]
    if tensor.shape[-1] != feature_size:
        raise ValidationError(
            f"{FEATURES} must have rows of {feature_size} numbers, got shape {shown(tensor)}",
            param=FEATURES,
        )
    features, lengths = read_floats(data, tensor.shape, FEATURES), None
    finite = np.isfinite(features)
    if not finite.all():
        place = np.argwhere(~finite)[0].tolist()
        raise ValidationError(f"{FEATURES}{place} must be a finite float32 number", param=FEATURES)
    if LENGTHS in by_name:
        tensor, data = by_name[LENGTHS]
        lengths = read_integers(data, tensor.shape, LENGTHS)
    return split_features(features, lengths)


def pair_texts(firsts: list[str], seconds: list[str]) -> list[Pair]:
    """Pairs of the texts at the same places.

    Raises:
        EmptyInputError: A pair of empty texts.
        ValidationError: Another number of first than of second texts.
    """
    if len(firsts) != len(seconds):
        raise ValidationError(
            f"{PAIR} must have as many texts as {TEXT}, {len(firsts)}, got {len(seconds)}",
            param=PAIR,
        )
    pairs = list(zip(firsts, seconds, strict=True))
    for place, pair in enumerate(pairs):
        if not any(pair):
            raise EmptyInputError(f"{TEXT}[{place}] and {PAIR}[{place}] are empty", param=TEXT)
    return pairs


def check_tensor(
    tensor: InputTensor, part: memoryview | None, allowed: Sequence[str] = TOKEN_INPUTS
) -> None:
    """Refuse a tensor that the model does not accept.

    Args:
        tensor: The tensor.
        part: Its bytes behind the JSON, if there are any.
        allowed: Names of the model's inputs.

    Raises:
        ValidationError: Its name, type or rank is wrong, or its elements are given twice or never.
    """
    name, rank = tensor.name, len(tensor.shape)
    if name not in allowed:
        raise ValidationError(
            f"unknown input {name[:64]!r}; allowed: {', '.join(allowed)}", param="inputs"
        )
    expected = DATATYPES[name]
    if tensor.datatype != expected:
        raise ValidationError(
            f"{name} must be {expected}, got {tensor.datatype[:64]!r}", param=name
        )
    is_text = DATATYPES[name] == "BYTES"
    fits = rank in RANKS[name] and not (is_text and rank == 2 and tensor.shape[1] != 1)
    if not fits:
        raise ValidationError(
            f"{name} must have shape {SHAPES[name]}, got {shown(tensor)}", param=name
        )
    if (tensor.data is None) == (part is None):
        raise ValidationError(
            f"{name} must have either data or the parameter binary_data_size", param=name
        )


def shown(tensor: InputTensor) -> str:
    """The shape, or the number of dimensions where it is long."""
    return str(tensor.shape) if len(tensor.shape) <= 4 else f"{len(tensor.shape)} dimensions"


def remove_padding(ids: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """Rows of ``ids`` [n, t] where ``mask`` [n, t] is one.

    Raises:
        EmptyInputError: A row of zeros.
        ValidationError: A mask of another shape, with other values, or with zeros between ones.
    """
    if mask.shape != ids.shape:
        raise ValidationError(
            f"{MASK} must have the shape {list(ids.shape)} of {IDS}, got {list(mask.shape)}",
            param=MASK,
        )
    kept = []
    for place, (row, marks) in enumerate(zip(ids, mask, strict=True)):
        if ((marks != 0) & (marks != 1)).any():
            raise ValidationError(f"{MASK}[{place}] must hold 0 and 1 alone", param=MASK)
        ones = np.flatnonzero(marks)
        if not len(ones):
            raise EmptyInputError(f"{MASK}[{place}] holds no 1", param=MASK)
        if ones[-1] - ones[0] >= len(ones):
            raise ValidationError(
                f"{MASK}[{place}] has zeros between ones; padding is at the ends", param=MASK
            )
        kept.append(row[ones[0] : ones[-1] + 1].tolist())
    return kept
