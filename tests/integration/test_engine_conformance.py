"""Every engine behind one protocol: same inputs, same outputs, same refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from osa.model import EmbeddingModel
from osa.model.common.directories import ARTIFACT
from osa.model.common.threads import threads
from osa.model.errors import ConfigError, InputError, OsaError
from osa.service.engines.artifact import ArtifactEngine
from osa.service.engines.base import Engine
from osa.service.engines.compiled import CompiledEngine
from osa.service.engines.eager import EagerEngine
from osa.service.engines.selection import select_engine
from osa.service.model_settings import ModelSettings
from osa.service.models.loader import ModelLoader
from osa.service.observability.metrics import Families
from tests.conftest import ArtifactMaker, local_settings, make_tiny_model

ENGINES = ("eager", "compile", "onnxruntime", "onnxruntime-padded", "onnxruntime-int8", "aoti",
           "torch-export", "eager-bfloat16", "aoti-bfloat16")  # fmt: skip
TOLERANCE = {"onnxruntime-int8": 0.05, "eager-bfloat16": 0.02, "aoti-bfloat16": 0.02}
BATCHES = ([1], [1, 1], [16, 17], [5, 1, 200, 64], [256], [3] * 40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("conformance") / "checkpoint"
    make_tiny_model().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest, checkpoint: Path, make_artifact: ArtifactMaker
) -> Engine:
    makers: dict[str, Callable[[], Engine]] = {
        "eager": lambda: EagerEngine(checkpoint, "cpu"),
        "compile": lambda: CompiledEngine(checkpoint, "cpu"),
        "onnxruntime": lambda: ArtifactEngine(make_artifact("onnx")),
        "onnxruntime-padded": lambda: ArtifactEngine(make_artifact("onnx", "padded")),
        "onnxruntime-int8": lambda: ArtifactEngine(make_artifact("onnx", "packed", "int8")),
        "aoti": lambda: ArtifactEngine(make_artifact("aoti")),
        "torch-export": lambda: ArtifactEngine(make_artifact("torch-export")),
        "eager-bfloat16": lambda: EagerEngine(checkpoint, "cpu", dtype="bfloat16"),
        "aoti-bfloat16": lambda: ArtifactEngine(make_artifact("aoti", "packed", "bfloat16")),
    }
    made = makers[request.param]()
    made.warm_up()
    return made


@pytest.mark.parametrize("lengths", BATCHES, ids=str)
def test_vectors_are_those_of_the_model(
    engine: Engine, lengths: list[int], request: pytest.FixtureRequest
) -> None:
    generator = np.random.default_rng(0)
    batch = [generator.integers(0, 12, length).tolist() for length in lengths]
    found = engine.embed(batch)
    expected = make_tiny_model().embed_ids(batch)
    name = request.node.callspec.params["engine"]
    tolerance = TOLERANCE.get(name, 1e-5)
    assert found.embeddings.dtype == found.norms.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, expected.embeddings.detach(), atol=tolerance)
    np.testing.assert_allclose(found.norms, expected.norms.detach(), rtol=10 * tolerance)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([], "at least one sequence is needed"),
        ([[1], []], "sequence 1 has 0 tokens, allowed are 1 to 256"),
        ([[1] * 257], "sequence 0 has 257 tokens, allowed are 1 to 256"),
        ([[1], [1, 12]], "sequence 1 holds id 12, allowed are 0 to 11"),
        ([[-1]], "sequence 0 holds id -1, allowed are 0 to 11"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_runs(
    engine: Engine, batch: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine.embed(batch)


def test_an_engine_tells_what_it_runs(engine: Engine, request: pytest.FixtureRequest) -> None:
    info = engine.info
    name: str = request.node.callspec.params["engine"]
    kind, _, variant = name.partition("-") if name != "torch-export" else (name, "", "")
    assert info.backend == kind
    assert info.device == "cpu"
    assert info.dtype == (variant if variant in ("int8", "bfloat16") else "float32")
    assert (info.vocab_size, info.max_input_length, info.dimensions) == (12, 256, (16, 8))
    assert info.kernel
    assert len(info.model_sha256) == 64
    assert engine.tokenizer is not None


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_float32_is_to_be_had_of_a_narrower_engine(checkpoint: Path, dtype: str) -> None:
    narrow, wide = EagerEngine(checkpoint, "cpu", dtype=dtype), EagerEngine(checkpoint, "cpu")
    found, exact = (narrow.embed([[4, 5, 6]], exact=exact).embeddings for exact in (False, True))
    wanted = wide.embed([[4, 5, 6]]).embeddings
    assert np.abs(exact - wanted).max() < np.abs(found - wanted).max() < 0.05
    np.testing.assert_array_equal(narrow.embed([[4, 5, 6]]).embeddings, found)


def test_results_do_not_change_when_the_next_batch_runs(engine: Engine) -> None:
    first = engine.embed([[4, 5, 6]])
    kept = first.embeddings.copy()
    engine.embed([[7, 8, 9]])
    np.testing.assert_array_equal(first.embeddings, kept)


def settings(path: Path, **values: str) -> ModelSettings:
    return ModelSettings.model_validate({"path": path, **values})


def test_the_directory_decides(checkpoint: Path, make_artifact: ArtifactMaker) -> None:
    for path, backend in [
        (checkpoint, "eager"),
        (make_artifact("onnx"), "onnxruntime"),
        (make_artifact("aoti"), "aoti"),
        (make_artifact("torch-export"), "torch-export"),
    ]:
        selection = select_engine(settings(path))
        assert selection.engine.info.backend == backend
        assert selection.reason
    asked = select_engine(settings(checkpoint, engine="compile"))
    assert isinstance(asked.engine, CompiledEngine)


def test_of_a_collection_the_fastest_exact_form_runs(
    checkpoint: Path, make_artifact: ArtifactMaker, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "checkpoint")
    shutil.copytree(make_artifact("onnx"), tmp_path / "onnx")
    shutil.copytree(make_artifact("onnx", "packed", "int8"), tmp_path / "small")
    broken = shutil.copytree(make_artifact("torch-export"), tmp_path / "broken")
    (broken / "model.pt2").write_bytes(b"")
    selection = select_engine(settings(tmp_path, dtype="float32"))
    assert selection.engine.info.dtype == "float32"
    for part in ("checkpoint ", "onnx ", "small: int8 is less exact than float32", "broken: "):
        assert part in selection.reason
    asked = select_engine(settings(tmp_path, engine="eager"))
    assert asked.engine.info.backend == "eager"
    with pytest.raises(ConfigError, match=r"nothing in .* that aoti runs can be served here"):
        select_engine(settings(tmp_path, engine="aoti"))


def test_a_collection_of_different_models_is_refused(
    checkpoint: Path, make_artifact: ArtifactMaker, tmp_path: Path
) -> None:
    shutil.copytree(make_artifact("onnx"), tmp_path / "onnx")
    make_tiny_model(alpha_init=0.5).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"are different models: onnx of .*, other of "):
        select_engine(settings(tmp_path))


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("checkpoint", {"engine": "aoti"}, "a checkpoint runs by eager, compile: export it first"),
        ("onnx", {"engine": "eager"}, "is an artifact that onnxruntime runs"),
        ("onnx", {"kernel": "triton"}, "onnx artifacts take auto, native, body"),
        ("torch-export", {"kernel": "native"}, "torch-export artifacts take auto"),
        ("checkpoint", {"kernel": "body"}, "model.kernel is body, but kernel must be one of"),
    ],
)
def test_settings_that_do_not_fit_the_directory_are_refused(
    checkpoint: Path,
    make_artifact: ArtifactMaker,
    kind: str,
    values: dict[str, str],
    message: str,
) -> None:
    path = checkpoint if kind == "checkpoint" else make_artifact(kind)
    with pytest.raises(ConfigError, match=message):
        select_engine(settings(path, **values))


def test_a_directory_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither a checkpoint .* nor an artifact"):
        select_engine(settings(tmp_path))
    with pytest.raises(ConfigError, match="is not a directory"):
        select_engine(settings(tmp_path / "nowhere"))


def test_the_server_refuses_a_changed_artifact(
    make_artifact: ArtifactMaker, tmp_path: Path
) -> None:
    artifact = shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")
    with (artifact / "model.onnx").open("r+b") as graph:
        graph.seek(2000)
        graph.write(b"\0\1\2\3")
    with pytest.raises(OsaError, match="does not match its sha256"):
        select_engine(settings(artifact))


def test_an_artifact_is_served_like_its_checkpoint(
    serve: Callable[..., object], make_artifact: ArtifactMaker, checkpoint: Path
) -> None:
    texts = ["the cat sat on the mat", "a dog ran"]
    client = serve(model__path=make_artifact("onnx"))
    answer = client.post("/embed", json={"inputs": texts})  # type: ignore[attr-defined]
    assert answer.status_code == 200
    expected = EmbeddingModel.from_pretrained(checkpoint).encode(texts)
    np.testing.assert_allclose(answer.json(), expected, atol=1e-5)
    info = client.get("/info").json()  # type: ignore[attr-defined]
    assert info["backend"] == "onnxruntime"
    manifest = json.loads((make_artifact("onnx") / ARTIFACT).read_text())
    assert info["model_dtype"] == manifest["dtype"]
    running = threads()
    assert (info["threads"], info["threads_reason"]) == (running.count, running.reason)


def test_info_names_the_member_of_a_collection_and_has_its_manifest(
    serve: Callable[..., httpx.Client],
    make_artifact: ArtifactMaker,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(checkpoint, tmp_path / "plain")
    shutil.copytree(make_artifact("onnx"), tmp_path / "graph")
    manifest = json.loads((tmp_path / "graph" / ARTIFACT).read_text())
    graph = serve(model__path=tmp_path, model__engine="onnxruntime").get("/info").json()
    assert (graph["member"], graph["artifact"]) == ("graph", manifest)
    plain = serve(model__path=tmp_path, model__engine="eager").get("/info").json()
    assert (plain["member"], plain["artifact"]) == ("plain", None)
    alone = serve(model__path=tmp_path / "graph").get("/info").json()
    assert (alone["member"], alone["artifact"]) == (None, manifest)


def test_an_engine_is_opened_again_from_the_same_member(
    make_artifact: ArtifactMaker, checkpoint: Path, tmp_path: Path
) -> None:
    """``/info`` stays correct even if the directory has new members."""
    shutil.copytree(make_artifact("onnx"), tmp_path / "graph")
    of_all = local_settings(model__path=tmp_path)
    model = ModelLoader(of_all, Families()).load(of_all.named("a"))
    make_tiny_model(alpha_init=0.5).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="are different models"):
        select_engine(settings(tmp_path))
    assert model.supervisor._reopen().info == model.about
