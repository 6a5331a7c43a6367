"""A server without the packages that are optional according to docs/operations.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.server_process import running_server

ROOT = Path(__file__).parents[2]
HIDER = """
import os, sys

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hider())
"""


def left_out() -> list[str]:
    """Packages of the documented command."""
    text = (ROOT / "docs" / "operations.md").read_text()
    (names,) = re.findall(r"dependencies\.py --without (\S+)", text)
    return str(names).split(",")


def test_the_packaged_model_is_served_without_what_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDER)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    modules = {name.removesuffix("-gpu").replace("-", "_") for name in left_out()}
    assert modules >= {"onnx", "onnxruntime"}
    environment = {"PYTHONPATH": path, "HIDDEN": ",".join(sorted(modules))}
    probe = [sys.executable, "-c", "import onnx"]
    blocked = subprocess.run(probe, env={**os.environ, **environment}, capture_output=True)
    assert b"No module named 'onnx'" in blocked.stderr
    with running_server(tmp_path / "log", **environment) as (_, port):
        answer = httpx.post(f"http://127.0.0.1:{port}/embed", json={"inputs": "a text"})
        assert answer.status_code == 200
        assert len(answer.json()[0]) == 384


def test_the_documented_command_leaves_them_out() -> None:
    command = [sys.executable, str(ROOT / "docker" / "dependencies.py"), "--without"]
    done = subprocess.run([*command, ",".join(left_out())], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch~=" in done.stdout
    assert "onnx" not in done.stdout
    wrong = subprocess.run([*command, "onxx"], capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "--without has onxx; packages are torch, numpy" in wrong.stderr
