"""What a killed compiler leaves in its cache does not stop the next process."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from osa.export.torch_program import compiler_cache
from osa.export.torch_program.compiler_cache import is_complete, mend_cache, with_cache
from osa.model.errors import ConfigError

PROGRAM = """
import sys, torch
from torch._inductor import config
from osa.export.torch_program.compiler_cache import mend_cache
if sys.argv[1] == "mend":
    assert mend_cache()
config.cpp_cache_precompile_headers = False  # takes longest
double = torch.compile(lambda x: x.sin() * 2 + 1)
assert torch.equal(double(torch.zeros(4)), torch.ones(4))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "locks").mkdir()
    (tmp_path / "ab").mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return tmp_path


def a_library() -> bytes:
    import torch

    return (Path(torch.__file__).parent / "lib" / "libshm.so").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_library_that_was_not_finished_is_removed(cache: Path, share: float) -> None:
    whole = a_library()
    (cache / "ab" / "whole.main.so").write_bytes(whole)
    (cache / "ab" / "cut.main.so").write_bytes(whole[: int(share * len(whole))])
    assert is_complete(cache / "ab" / "whole.main.so")
    assert mend_cache() == [cache / "ab" / "cut.main.so"]
    assert [file.name for file in (cache / "ab").iterdir()] == ["whole.main.so"]


def test_what_another_process_compiles_is_left_alone(cache: Path) -> None:
    (cache / "ab" / "cut.main.so").touch()
    (cache / "locks" / "cut.lock").touch()
    with (cache / "locks" / "cut.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert mend_cache() == []
    assert mend_cache() == [cache / "ab" / "cut.main.so"]


def test_a_cache_that_makes_compiling_fail_is_left_out_the_second_time(cache: Path) -> None:
    (cache / "ab" / "bad.main.so").write_bytes(a_library())
    (cache / "ab" / "held.main.so").write_bytes(a_library())
    (cache / "fxgraph").mkdir()
    (cache / "locks" / "held.lock").touch()
    tries = []

    def compile_it() -> None:
        tries.append(sorted(entry.name for entry in cache.rglob("*")))
        if len(tries) == 1:
            raise RuntimeError("a library cannot be loaded")

    with (cache / "locks" / "held.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # another process compiles it
        with_cache(compile_it)
    kept = ["ab", "held.lock", "held.main.so", "locks"]
    assert tries == [sorted([*kept, "bad.main.so", "fxgraph"]), kept]


def test_a_directory_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match="TORCHINDUCTOR_CACHE_DIR"):
        compiler_cache.cache_directory()


def test_torch_compiles_again_what_a_kill_left_empty(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }

    def run(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        return subprocess.run(command, env=environment, check=False, timeout=300).returncode

    assert run("first") == 0
    libraries = list(tmp_path.rglob("*.so"))
    assert libraries
    for library in libraries:
        library.write_bytes(b"")
    assert run("mend") == 0
