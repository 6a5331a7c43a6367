"""Which models of other libraries sentence-transformers runs here, and what it may not do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from osa.model.errors import CheckpointError, ConfigError, UnsupportedModelError
from osa.service.engines.selection import select_engine
from osa.service.engines.sentence_transformers import SentenceTransformersEngine
from osa.service.model_settings import ModelSettings
from tests.library_models import change_json, make_library_model, unit

LIBRARY = "sentence-transformers"


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("library") / "albert"
    make_library_model(directory, "albert")
    return directory


def test_a_native_form_comes_first_and_the_log_says_why_not(albert: Path, tmp_path: Path) -> None:
    chosen = select_engine(ModelSettings.model_validate({"path": albert}))
    assert chosen.engine.info.backend == LIBRARY
    assert re.match("not run by the native encoder: .*no model type 'albert'", chosen.reason)
    asked = select_engine(ModelSettings.model_validate({"path": albert, "engine": LIBRARY}))
    assert asked.reason == "asked for by model.engine"
    with pytest.raises(UnsupportedModelError, match=r"model.engine is eager, but .*may run it"):
        select_engine(ModelSettings.model_validate({"path": albert, "engine": "eager"}))
    bert = tmp_path / "roberta"
    make_library_model(bert, "roberta")
    assert select_engine(ModelSettings.model_validate({"path": bert})).engine.info.packed
    for file, values in (
        ("1_Pooling/config.json", {"pooling_mode": "max"}),  # told by the description
        ("sentence_bert_config.json", {"do_lower_case": True}),  # told by the tokenizer
    ):
        other = shutil.copytree(bert, tmp_path / file.partition("/")[0])
        tokenizer = (other / "tokenizer.json").read_text()
        cased = tokenizer.replace('"lowercase": true', '"lowercase": false')
        (other / "tokenizer.json").write_text(cased)
        change_json(other / file, **values)
        found = select_engine(ModelSettings.model_validate({"path": other}))
        assert found.engine.info.backend == LIBRARY, file
        assert found.reason.startswith("not run by the native encoder: ")
    with pytest.raises(ConfigError, match=r"model.kernel is torch, but sentence-transformers take"):
        select_engine(
            ModelSettings.model_validate({"path": albert, "engine": LIBRARY, "kernel": "torch"})
        )


def test_prompts_of_the_model_are_told(albert: Path) -> None:
    info = SentenceTransformersEngine(albert, "cpu").info
    assert info.prompts == {"query": "a question: "}
    assert info.default_prompt_name is None


def test_the_identity_is_that_of_the_files(albert: Path, tmp_path: Path) -> None:
    sha256 = SentenceTransformersEngine(albert, "cpu").info.model_sha256
    copy = shutil.copytree(albert, tmp_path / "copy")
    (copy / "README.md").write_text("a card")
    assert SentenceTransformersEngine(copy, "cpu").info.model_sha256 == sha256
    change_json(copy / "1_Pooling" / "config.json", pooling_mode="cls")
    assert SentenceTransformersEngine(copy, "cpu").info.model_sha256 != sha256


def test_weights_that_are_not_in_the_files_are_not_made_up(albert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(albert, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "attention.key" not in name}
    save_file(kept, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"misses the weights of .*attention\.key\.bias"):
        SentenceTransformersEngine(broken, "cpu")


def test_a_tokenizer_that_the_library_does_not_use_as_it_lies_is_copied_changed(
    albert: Path, tmp_path: Path
) -> None:
    """``do_lower_case`` of older models, which the library puts before its own normalising."""
    lower = shutil.copytree(albert, tmp_path / "lower")
    for name in ("tokenizer.json",):
        text = (lower / name).read_text()
        (lower / name).write_text(text.replace('"lowercase": true', '"lowercase": false'))
    change_json(lower / "sentence_bert_config.json", do_lower_case=True)
    engine = SentenceTransformersEngine(lower, "cpu")
    assert engine.tokenizer is not None
    upper, small = engine.tokenizer.encode(["THE CAT", "the cat"])
    assert upper.ids == small.ids


def test_positions_end_where_their_table_does(tmp_path: Path) -> None:
    """RoBERTa's begin after the padding's, and its configuration counts those too."""
    directory = tmp_path / "roberta"
    make_library_model(directory, "roberta")
    change_json(directory / "tokenizer_config.json", model_max_length=10**30)
    change_json(directory / "sentence_bert_config.json", max_seq_length=None)
    engine = SentenceTransformersEngine(directory, "cpu")
    assert engine.info.max_input_length == 79
    assert np.isfinite(engine.embed([[5] * 79]).embeddings).all()


def test_nothing_goes_out(albert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the libraries may: the environment does not forbid it here."""
    import socket

    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    tried: list[object] = []

    def refuse(*arguments: object, **keywords: object) -> None:
        tried.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    engine = SentenceTransformersEngine(albert, "cpu")
    engine.embed([[5, 6]])
    assert tried == []
    assert constants.HF_HUB_OFFLINE is False, "only while it loads"


def test_a_missing_library_is_told_with_its_extra(
    albert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from osa.model.common import requirements
    from osa.service.cli import main

    installed = requirements.is_installed
    monkeypatch.setattr(
        requirements,
        "is_installed",
        lambda name: name != "sentence_transformers" and installed(name),
    )
    told = "needs sentence_transformers: pip install 'osa-encoder[hf]'"
    with pytest.raises(ConfigError, match=r"needs .*pip install .*no model type 'albert'"):
        select_engine(ModelSettings.model_validate({"path": albert}))
    assert main(["serve", "--model", str(albert), "--set", f"model.engine={LIBRARY}"]) == 2
    assert told in capsys.readouterr().err
    own = shutil.copytree(albert, tmp_path / "own")
    change_json(own / "config.json", auto_map={"AutoModel": "own.Model"})
    with pytest.raises(CheckpointError, match=r"auto_map\), which is never run"):
        select_engine(ModelSettings.model_validate({"path": own}))


def test_the_command_refuses_what_the_library_cannot_serve(
    albert: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from osa.service.cli import main

    broken = shutil.copytree(albert, tmp_path / "broken")
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    assert main(["serve", "--model", str(broken)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "a pickle, which can run code as it is read" in line
    for model in ([], ["--model", str(tiny_checkpoint)]):
        assert main(["serve", *model, "--set", f"model.engine={LIBRARY}"]) == 2
        assert "but a checkpoint runs by eager, compile: export" in capsys.readouterr().err


def test_files_are_embedded_by_it(albert: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from osa.service.cli import main

    (tmp_path / "a.txt").write_text("the cat\nrain\n")
    output = tmp_path / "out.parquet"
    command = ["embed", str(tmp_path / "a.txt"), "--output", str(output), "--model", str(albert)]
    assert main([*command, "--set", "model.dtype=float32"]) == 0
    vectors = np.array(pq.read_table(output)["embedding"].to_pylist())
    expected = SentenceTransformer(str(albert), device="cpu").encode(["the cat", "rain"])
    np.testing.assert_allclose(vectors, unit(expected), atol=1e-5)
