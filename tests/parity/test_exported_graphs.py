"""Exported graphs give their source's vectors: every format, layout and storage type."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from osa.export.errors import ExportError, ParityError
from osa.export.exporter import ExportOptions, export_model, verify_artifact
from osa.export.manifest import Artifact, load_artifact
from osa.export.onnx_model import build
from osa.export.onnx_model.build import check
from osa.export.onnx_model.runner import OnnxRunner
from osa.export.parity.cases import grid
from osa.export.parity.comparison import compare
from osa.export.runner import embed_sequences, open_runner
from osa.model.common.directories import ARTIFACT
from tests.conftest import ArtifactMaker, make_tiny_model
from tests.onnx_operator import session

FORMS = [
    ("onnx", "packed", "float32"),
    ("onnx", "padded", "float32"),
    ("onnx", "packed", "float16"),
    ("onnx", "packed", "bfloat16"),
    ("onnx", "packed", "int8"),
    ("torch-export", "packed", "float32"),
    ("torch-export", "padded", "float32"),
    ("aoti", "packed", "float32"),
]


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_every_form_verifies_against_float64(
    make_artifact: ArtifactMaker, form: tuple[str, str, str]
) -> None:
    artifact = load_artifact(make_artifact(*form))
    results = verify_artifact(artifact)
    cases = len(list(grid(artifact.config, artifact.manifest.layout)))
    for deviations in results.values():
        assert len(deviations) == cases
        assert max(deviation.max_abs for deviation in deviations) <= artifact.manifest.tolerance


def test_the_same_file_gives_the_same_vectors_with_and_without_the_library(
    make_artifact: ArtifactMaker, ort_library: Path
) -> None:
    path = make_artifact("onnx") / "model.onnx"
    ids = np.random.default_rng(0).integers(0, 12, 300)
    feeds = {"input_ids": ids, "cu_seqlens": np.array([0, 1, 40, 300], dtype=np.int32)}
    body, native = (session(path, library).run(None, feeds) for library in (None, ort_library))
    evaluated = ReferenceEvaluator(str(path)).run(None, feeds)
    for found, other, reference in zip(body, native, evaluated, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-5, rtol=0)
        np.testing.assert_allclose(found, reference, atol=1e-5, rtol=0)


def test_a_layer_is_one_custom_node_and_nothing_else_is_foreign(
    make_artifact: ArtifactMaker,
) -> None:
    model = onnx.load(str(make_artifact("onnx") / "model.onnx"))
    foreign = [(node.domain, node.op_type) for node in model.graph.node if node.domain]
    assert foreign == [("osa", "OrthogonalAttention")] * 2
    assert not any(node.op_type == "Transpose" for node in model.graph.node)
    assert {function.domain for function in model.functions} == {"osa"}
    assert all(node.domain in ("", "osa") for f in model.functions for node in f.node)
    assert model.ir_version <= 13
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["osa.model"]
    assert facts["osa.config_sha256"]
    assert facts["osa.tokenizer_sha256"]


def test_the_model_holds_no_path_of_the_machine_that_made_it(make_artifact: ArtifactMaker) -> None:
    content = (make_artifact("onnx") / "model.onnx").read_bytes()
    for trace in (str(Path(__file__).parents[2]), sys.prefix, "site-packages"):
        assert trace.encode() not in content


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize(
    "changes",
    [
        {"center": True, "positions": "learned", "embedding_size": 8, "matryoshka_dims": ()},
        {"scale": "paper", "alpha_init": 0.1, "qk_norm": False, "residual": False, "norm": False,
         "positions": "none", "activation": "relu"},
        {"vocab_size": None, "feature_size": 5, "pooling": "cls", "activation": "silu"},
    ],
    ids=["centred-learned-projected", "paper-skipless", "features-cls"],
)  # fmt: skip
def test_every_configuration_exports(
    changes: dict[str, object], layout: str, tmp_path: Path
) -> None:
    model = make_tiny_model(max_seq_len=64, **changes)
    options = ExportOptions("onnx", layout)  # type: ignore[arg-type]
    results = export_model(model, tmp_path / "artifact", options)
    assert all(len(deviations) > 8 for deviations in results.values())


def test_a_softmax_model_exports_padded_and_says_why_not_packed(tmp_path: Path) -> None:
    model = make_tiny_model(mixer="softmax", max_seq_len=64)
    with pytest.raises(ExportError, match=r"softmax mixer has no packed graph.*layout padded"):
        export_model(model, tmp_path / "artifact", ExportOptions("onnx", "packed"))
    assert not list(tmp_path.iterdir())
    export_model(model, tmp_path / "artifact", ExportOptions("onnx", "padded"))


def test_the_torch_program_holds_the_operator_itself(make_artifact: ArtifactMaker) -> None:
    program = torch.export.load(str(make_artifact("torch-export") / "model.pt2"))
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("osa.attention.default") == 2


@pytest.mark.parametrize("kind", ["onnx", "torch-export", "aoti"])
@pytest.mark.parametrize("lengths", [(1,), (1, 1), (256,), (3, 1, 200)])
def test_single_tokens_and_single_sequences_run(
    make_artifact: ArtifactMaker, kind: str, lengths: tuple[int, ...]
) -> None:
    """Compiled graphs often fail at sizes 0 and 1."""
    artifact = load_artifact(make_artifact(kind))
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 12, length) for length in lengths]
    vectors, norms, tokens = embed_sequences(open_runner(artifact), artifact.manifest, rows)
    expected = make_tiny_model().embed_ids([row.tolist() for row in rows])
    np.testing.assert_allclose(vectors, expected.embeddings.detach(), atol=1e-5)
    np.testing.assert_allclose(norms, expected.norms.detach(), rtol=1e-5)
    means = np.stack([row.mean(axis=0) for row in tokens])
    np.testing.assert_allclose(means, vectors * norms[:, None], rtol=1e-4, atol=1e-5)


def test_a_graph_of_other_weights_fails_parity_and_leaves_nothing(
    make_artifact: ArtifactMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = onnx.load(str(make_artifact("onnx") / "model.onnx"))
    weight = max(proto.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    values[0] += 0.1
    weight.raw_data = values.tobytes()
    monkeypatch.setattr(build, "build_onnx", lambda model, layout: proto)
    with pytest.raises(ParityError, match="gives other values than its source: lengths"):
        export_model(make_tiny_model(), tmp_path / "artifact")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_last_one(
    make_artifact: ArtifactMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = shutil.copytree(make_artifact("onnx"), tmp_path / "artifact")
    before = (last / ARTIFACT).read_bytes()
    monkeypatch.setattr("osa.export.exporter.TOLERANCE", {"float32": 1e-12})
    with pytest.raises(ParityError):
        export_model(make_tiny_model(max_seq_len=64), last, ExportOptions("torch-export"))
    assert (last / ARTIFACT).read_bytes() == before
    load_artifact(last)


def test_other_directories_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Exception, match="holds other files"):
        export_model(make_tiny_model(max_seq_len=64), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_verify_finds_a_runner_that_errs(make_artifact: ArtifactMaker) -> None:
    """The parity tests find an error in one dimension of one case."""
    artifact = load_artifact(make_artifact("onnx"))

    class Wrong(OnnxRunner):
        def run(  # type: ignore[no-untyped-def]
            self, inputs: np.ndarray, places: np.ndarray, tokens: bool = True
        ):
            outputs = super().run(inputs, places, tokens)
            if len(inputs) == 65:
                outputs.embeddings[0, 3] += 1e-4
            return outputs

    deviations = compare(Wrong(artifact, "cpu", "body"), artifact)
    wrong = [deviation.case for deviation in deviations if deviation.max_abs > 5e-5]
    assert wrong == ["lengths 65"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tflite"}, "kind must be one of onnx, aoti, torch-export, got 'tflite'"),
        ({"kind": "aoti", "dtype": "int8"}, "aoti artifacts are float32 or bfloat16, got"),
        ({"device": "cuda"}, "an onnx artifact runs on every device"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        ExportOptions(**options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_artifact_for_gpus_says_so_on_a_machine_without(make_artifact: ArtifactMaker) -> None:
    artifact = load_artifact(make_artifact("aoti"))
    manifest = dataclasses.replace(artifact.manifest, device="cuda")
    with pytest.raises(
        ExportError, match=r"compiled for cuda, .* (no CUDA device|without CUDA).*--device cpu"
    ):
        open_runner(dataclasses.replace(artifact, manifest=manifest))
    with pytest.raises(ExportError, match="made for cpu, not cuda: export it with --device cuda"):
        open_runner(artifact, "cuda")
    with pytest.raises(ExportError, match=r"could not start its CUDA provider|no CUDA provider"):
        open_runner(load_artifact(make_artifact("onnx")), "cuda")


@pytest.mark.parametrize("made_for", ["sparc64 DEFAULT", f"{platform.machine()} AVX1024"])
def test_machine_code_for_another_processor_is_refused(
    make_artifact: ArtifactMaker, made_for: str
) -> None:
    artifact = load_artifact(make_artifact("aoti"))
    versions = artifact.manifest.versions | {"processor": made_for}
    manifest = dataclasses.replace(artifact.manifest, versions=versions)
    with pytest.raises(ExportError, match=rf"compiled for {made_for}, this processor is .* onnx"):
        open_runner(dataclasses.replace(artifact, manifest=manifest))


def test_a_missing_or_broken_library_names_the_command_that_builds_it(
    make_artifact: ArtifactMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(make_artifact("onnx"))
    monkeypatch.setattr("osa.export.onnx_model.runner.find_library", lambda: None)
    with pytest.raises(ExportError, match=r"not built: run 'python -m osa\.export\."):
        open_runner(artifact, "cpu", "native")
    assert open_runner(artifact, "cpu").kernel == "function body"
    (tmp_path / "broken.so").write_bytes(b"no library")
    monkeypatch.setattr("osa.export.onnx_model.runner.find_library", lambda: tmp_path / "broken.so")
    with pytest.raises(ExportError, match=r"cannot be loaded: .* build it again"):
        open_runner(artifact, "cpu")


def test_the_padded_graph_ignores_what_padding_holds(make_artifact: ArtifactMaker) -> None:
    runner = open_runner(load_artifact(make_artifact("onnx", "padded")))
    mask = np.array([[1, 1, 1, 0, 0]])
    one, other = (
        runner.run(np.array([[4, 5, 6, filler, filler]]), mask).embeddings for filler in (0, 9)
    )
    np.testing.assert_array_equal(one, other)


def test_from_c_plus_plus(make_artifact: ArtifactMaker, ort_library: Path, tmp_path: Path) -> None:
    """The example of the documentation, built and run against the installed runtime."""
    import onnxruntime

    from osa.export.ort_ops.headers import include_dir

    runtime = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(runtime)
    source = Path(sys.modules["osa.export.ort_ops"].__file__ or "").parent / "example/embed.cpp"
    subprocess.run(
        ["c++", "-std=c++17", str(source), f"-I{include_dir()}", f"-L{tmp_path}", "-lonnxruntime",
         f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / "embed")],
        check=True,
    )  # fmt: skip
    ids = [2, 4, 5, 7, 3]
    command = [tmp_path / "embed", make_artifact("onnx") / "model.onnx", ort_library, *ids]
    done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    vector = np.array([float(line) for line in done.stdout.split()])
    expected = make_tiny_model().embed_ids([ids]).embeddings[0].detach()
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_weights_beyond_the_limit_lie_in_a_file_of_their_own(
    make_artifact: ArtifactMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_artifact("onnx") / "model.onnx"
    monkeypatch.setattr(build, "build_onnx", lambda *asked: onnx.load(str(whole)))
    monkeypatch.setattr(build, "EXTERNAL_BYTES", 0)
    export_model(make_tiny_model(), tmp_path / "artifact")
    artifact: Artifact = load_artifact(tmp_path / "artifact")
    assert "model.onnx.data" in artifact.manifest.files
    assert artifact.graph.stat().st_size < whole.stat().st_size
    verify_artifact(artifact)


def test_onnx_checks_run_on_what_is_written(make_artifact: ArtifactMaker) -> None:
    broken = onnx.load(str(make_artifact("onnx") / "model.onnx"))
    check(broken)
    broken.graph.node[0].input[0] = "nobody"
    with pytest.raises(ExportError, match="does not pass onnx's own checks"):
        check(broken)
