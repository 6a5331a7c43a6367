"""Which files of a repository are taken, and which repositories are refused."""

from __future__ import annotations

import re

import pytest

from osa.model.download.selection import choose_files, find_problem

TOKENS = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
MINILM = [
    *(".gitattributes", "README.md", "data_config.json", "train_script.py", "vocab.txt"),
    *("pytorch_model.bin", "tf_model.h5", "rust_model.ot", "onnx/model.onnx", "onnx/config.json"),
    *("openvino/openvino_model.bin", "1_Pooling/config.json", "config.json", "model.safetensors"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", *TOKENS),
]


def test_of_a_sentence_encoder_nothing_but_the_model_is_taken() -> None:
    assert find_problem(MINILM) is None
    assert choose_files(MINILM) == sorted(
        [
            *("1_Pooling/config.json", "config.json", "config_sentence_transformers.json"),
            *("model.safetensors", "modules.json", "sentence_bert_config.json", *TOKENS),
        ]
    )


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (
            ["config.json", "model.safetensors", "model.fp16.safetensors"],
            ["config.json", "model.safetensors"],
        ),
        (
            [
                *("config.json", "model.safetensors.index.json", "other.safetensors"),
                *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
            ],
            [
                *("config.json", "model-00001-of-00002.safetensors"),
                *("model-00002-of-00002.safetensors", "model.safetensors.index.json"),
            ],
        ),
        (  # without a fast tokenizer, its vocabulary
            ["config.json", "model.safetensors", "vocab.txt"],
            ["config.json", "model.safetensors", "vocab.txt"],
        ),
        (
            [
                *("config.json", "model.safetensors", "2_Dense/config.json", "2_Dense/old.py"),
                *("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "extra/config.json"),
            ],
            [
                "2_Dense/config.json",
                "2_Dense/model.safetensors",
                "config.json",
                "model.safetensors",
            ],
        ),
        (  # an old layout: the transformer in a directory of its own
            ["modules.json", "0_Transformer/config.json", "0_Transformer/model.safetensors"],
            ["0_Transformer/config.json", "0_Transformer/model.safetensors", "modules.json"],
        ),
        (  # ours: whatever the manifest may list
            ["manifest.json", "model.safetensors", "calibration.json", "notes.txt", "run.py"],
            ["calibration.json", "manifest.json", "model.safetensors", "notes.txt"],
        ),
        (
            ["artifact.json", "model.onnx", "parity.json"],
            ["artifact.json", "model.onnx", "parity.json"],
        ),
        (  # a collection: a compiled member stays behind
            [
                *("onnx/artifact.json", "onnx/model.onnx", "plain/manifest.json"),
                *("aoti/artifact.json", "aoti/model.pt2"),
            ],
            ["onnx/artifact.json", "onnx/model.onnx", "plain/manifest.json"],
        ),
        (["../manifest.json", ".git/manifest.json", "a/b/manifest.json", "/manifest.json"], []),
    ],
)
def test_what_is_taken(listed: list[str], chosen: list[str]) -> None:
    assert choose_files(listed) == chosen
    assert (find_problem(listed) is None) == bool(chosen)
    assert choose_files(chosen) == chosen, "nothing more of what was taken"


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        (["config.json", "pytorch_model.bin"], r"pickle alone \(pytorch_model.bin\)"),
        (["config.json", "model.pt", "tf_model.h5"], r"pickle alone \(model.pt\)"),
        (
            [
                "config.json",
                "model.safetensors",
                "2_Dense/config.json",
                "2_Dense/pytorch_model.bin",
            ],
            r"pickle alone \(2_Dense/pytorch_model.bin\)",
        ),
        (
            ["modules.json", "0_Transformer/config.json", "0_Transformer/pytorch_model.bin"],
            "pickle",
        ),
        (["config.json", "onnx/model.onnx"], "no weights in safetensors"),
        (["README.md"], "no weights in safetensors"),
        (["config.json", "model.safetensors", "adapter_config.json"], "holds an adapter"),
        ([], "no weights in safetensors"),
        (["artifact.json", "model.pt2", "reference.safetensors"], "artifact of compiled code"),
    ],
)
def test_what_is_refused(listed: list[str], told: str) -> None:
    problem = find_problem(listed)
    assert problem is not None
    assert re.search(told, problem)
