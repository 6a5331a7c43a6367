"""Which kernel of the operator runs, and what happens if one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from setuptools import Distribution, Extension

from osa.model import EmbeddingModel, kernels
from osa.model.errors import ConfigError, InputError
from osa.model.kernels import native
from osa.model.kernels.build import FLAGS, BuildNative
from osa.model.ops import attention
from osa.service.engines.eager import EagerEngine
from osa.service.server.app import create_service
from tests.conftest import local_settings

ROOT = Path(__file__).parents[4]
ALPHA = torch.tensor([0.3, 0.1])


def states(dtype: torch.dtype = torch.float32, width: int = 8) -> torch.Tensor:
    return torch.randn(3, 1, 2, 50, width).to(dtype)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As after an install without a compiler."""
    monkeypatch.setattr(native, "EXTENSION", "osa.model.kernels._no_such_library")
    native.library.cache_clear()
    yield
    native.library.cache_clear()


def test_without_the_library_torch_computes_the_same(
    no_library: None, tiny_model: EmbeddingModel
) -> None:
    query, key, value = states()
    assert kernels.choose(query).name == "torch"
    assert "no C++ compiler" in kernels.describe("cpu")
    assert native.instruction_sets() == ()
    without = attention(query, key, value, ALPHA)
    vectors = tiny_model.embed_ids([[1, 2, 3]]).embeddings
    native.library.cache_clear()
    with kernels.use_kernel("torch"):
        assert torch.equal(attention(query, key, value, ALPHA), without)
    assert bool(torch.isfinite(vectors).all())


@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)
def test_where_there_is_a_compiler_the_install_has_built_the_kernel() -> None:
    assert not isinstance(native.library(), str), native.library()


def test_a_server_without_the_library_starts_and_says_so(
    no_library: None, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = local_settings(model__path=tiny_checkpoint, model__device="cpu")
    create_service(settings)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.message == "attention runs in plain torch"
    assert "no C++ compiler" in vars(record)["kernel"]


def test_a_server_runs_the_kernel_that_its_settings_name(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = EagerEngine(tiny_checkpoint, "cpu", "torch")
    assert engine.info.kernel == "torch"
    monkeypatch.setattr(native, "attention_forward", None)
    assert engine.embed([[1, 2, 3]]).embeddings.shape == (1, 16)
    with pytest.raises(ConfigError, match=r"model.kernel is triton, but the triton kernel .*"):
        EagerEngine(tiny_checkpoint, "cpu", "triton")


@pytest.mark.skipif(isinstance(native.library(), str), reason="the CPU kernel is not built")
@pytest.mark.parametrize(
    ("dtype", "width", "name"),
    [
        (torch.float32, 32, "native"),
        (torch.bfloat16, 32, "native"),
        (torch.float16, 128, "native"),
        (torch.float64, 32, "torch"),
        (torch.float32, 129, "torch"),
    ],
)
def test_the_kernel_follows_the_operands(dtype: torch.dtype, width: int, name: str) -> None:
    query, key, value = states(dtype, width)
    assert kernels.choose(query).name == name
    assert kernels.describe("cpu", dtype, width).startswith(name)
    assert attention(query, key, value, ALPHA).dtype == dtype


def test_a_kernel_that_is_asked_for_runs_or_says_why_not() -> None:
    query, key, value = states(torch.float64)
    with kernels.use_kernel("native"), pytest.raises(InputError, match=r"native kernel .*"):
        attention(query, key, value, ALPHA)
    with pytest.raises(InputError, match="triton, native, torch, got 'cuda'"), \
            kernels.use_kernel("cuda"):  # fmt: skip
        pass
    assert kernels.choose(query).name == "torch"


SOURCES = ("kernel", "products", "dispatch", "pass")


def build(folder: Path) -> BuildNative:
    sources = [f"model/kernels/csrc/{name}.cpp" for name in SOURCES]
    extension = Extension(native.EXTENSION, sources, optional=True)
    command = BuildNative(Distribution({"ext_modules": [extension]}))
    command.build_temp, command.build_lib = str(folder / "temp"), str(folder / "lib")
    command.ensure_finalized()
    return command


def test_an_install_without_a_compiler_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, str(tmp_path / "no-compiler"))
    command = build(tmp_path)
    command.run()
    assert not list(tmp_path.rglob("*.so"))


def test_an_instruction_set_that_the_compiler_does_not_know_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library is built without it, loads, and uses the other instruction sets."""
    if isinstance(native.library(), str):
        pytest.skip(f"the CPU kernel {native.library()}")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(
        "osa.model.kernels.build.INSTRUCTION_SETS", {"baseline": (), "abacus": ("-mabacus",)}
    )
    # seconds instead of half a minute
    monkeypatch.setattr("osa.model.kernels.build.FLAGS", (*FLAGS, "-O0"))
    command = build(tmp_path)
    command.run()
    (library,) = tmp_path.rglob("_native*")
    code = (
        "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]);"
        "library.osa_instruction_sets.restype = ctypes.c_char_p;"
        "print(library.osa_instruction_sets().decode())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(library)],
        env=os.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == "baseline"
