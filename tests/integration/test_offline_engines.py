"""No engine looks a name up, connects or leaves an id of the machine behind; the log stays JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ArtifactMaker
from tests.library_models import make_library_model

PROGRAM = """
import logging, sys, time
from pathlib import Path
from osa.service.engines.selection import select_engine
from osa.service.engines.trial import try_engine
from osa.service.model_settings import ModelSettings
from osa.service.observability.logs import configure_logging
from osa.service.server_settings import LogSettings
configure_logging(LogSettings())
for path in sys.argv[2:]:
    engine = select_engine(ModelSettings(path=Path(path))).engine
    engine.warm_up()
    try_engine(engine)
    print(engine.info.backend, flush=True)
for name in ("torch", "torch._inductor.package.package", "torch._dynamo"):
    logging.getLogger(name).warning("a warning of torch")
time.sleep(float(sys.argv[1]))
"""
"""Opens and tries models, and waits for what threads of theirs would send."""


@pytest.fixture(scope="module")
def traced(
    make_artifact: ArtifactMaker, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str, str]:
    """Home of the process, its output, its log, and its calls of the network."""
    root = tmp_path_factory.mktemp("offline")
    make_library_model(root / "albert", "albert")
    packaged = Path(__file__).parents[2] / "model" / "pretrained" / "default"
    models = (packaged, make_artifact("onnx"), make_artifact("torch-export"), root / "albert")
    names = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "HF_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["HOME"] = str(root / "home")
    (root / "home").mkdir()
    tracer = shutil.which("strace")
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    command = [tracer, "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(root / "calls")]
    program = [sys.executable, "-c", PROGRAM, "14" if tracer else "0", *map(str, models)]
    done = subprocess.run(
        [*(command if tracer else ()), *program],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = (root / "calls").read_text() if tracer else ""
    return root / "home", done.stdout, done.stderr, trace


def test_every_engine_was_run(traced: tuple[Path, str, str, str]) -> None:
    engines = traced[1].split()
    assert engines == ["eager", "onnxruntime", "torch-export", "sentence-transformers"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_engine_looks_up_a_name_or_connects(traced: tuple[Path, str, str, str]) -> None:
    internet = re.findall(r"^.*sa_family=AF_INET6?,.*$", traced[3], re.MULTILINE)
    assert internet == []


def test_no_engine_keeps_an_id_of_the_machine(traced: tuple[Path, str, str, str]) -> None:
    left = [str(path.relative_to(traced[0])) for path in traced[0].rglob("*") if path.is_file()]
    assert [name for name in left if "icrosoft" in name or "device" in name.lower()] == []


def test_every_line_on_standard_error_is_json(traced: tuple[Path, str, str, str]) -> None:
    lines = [json.loads(line) for line in traced[2].splitlines()]
    assert [line["message"] for line in lines].count("a warning of torch") == 3
