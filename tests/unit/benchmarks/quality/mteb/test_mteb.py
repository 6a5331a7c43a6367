"""Tasks of MTEB through a running server: its vectors, local data, and what is not run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest

from osa.model import EmbeddingModel
from osa.model.errors import ConfigError
from tests.conftest import free_port
from tests.docs.commands import ROOT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import mteb

    from benchmarks.quality.mteb.__main__ import main
    from benchmarks.quality.mteb.report import (
        Result,
        make_report,
        read_results,
        write_results,
    )
    from benchmarks.quality.mteb.server_encoder import ServerEncoder
    from benchmarks.quality.mteb.tasks import choose_tasks, use_local_data

PAIRS = [
    (5.0, "A man is playing a guitar.", "Someone plays the guitar."),
    (3.5, "Stocks fell on Tuesday.", "Shares dropped this week."),
    (2.0, "A dog runs in the park.", "A cat sleeps in the park."),
    (0.0, "The bread is fresh.", "Parliament passed the law."),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    lines = ["\t".join(map(str, pair)) for pair in PAIRS]
    (directory / "STS13.tsv").write_text("\n".join(lines) + "\n")
    return directory


Connect = Callable[..., ServerEncoder]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Encoders on servers, closed at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *values, **more: stack.enter_context(
            contextlib.closing(ServerEncoder(*values, **more))
        )


def url_of(client: httpx.Client) -> str:
    return str(client.base_url)


def encode(encoder: ServerEncoder, texts: list[str], prompt: str | None = None) -> np.ndarray:
    """Vectors of texts, as ``mteb`` asks for them."""
    from mteb.types import PromptType

    task = mteb.get_task("STS13")
    loader: Any = [{"text": texts[:2]}, {"text": texts[2:]}]
    kind = None if prompt is None else PromptType(prompt)
    found: np.ndarray = encoder.encode(
        loader, task_metadata=task.metadata, hf_split="test", hf_subset="default", prompt_type=kind
    )
    return found


def test_both_routes_bring_the_servers_vectors(
    client: httpx.Client, connect: Connect, default_model: EmbeddingModel
) -> None:
    texts = ["a long text " * 30, "rain", "", "A man is playing a guitar."]
    native = connect("ours", url_of(client))
    found = encode(native, texts)
    expected = default_model.encode([text or " " for text in texts]).numpy()
    np.testing.assert_allclose((found * expected).sum(1), 1.0, atol=1e-3)
    assert (native.texts, native.blank) == (4, 1)
    assert native.info["backend"] == "eager"
    assert native.mteb_model_meta.name == "served/ours"
    openai = connect("ours", url_of(client), "openai")
    np.testing.assert_array_equal(encode(openai, texts), found)


def test_prefixes_go_before_queries_and_documents(client: httpx.Client, connect: Connect) -> None:
    encoder = connect("ours", url_of(client), prefixes={"query": "question: "})
    plain = encode(encoder, ["rain", "a cat", "question: rain"])
    asked = encode(encoder, ["rain", "a cat", "rain"], "query")
    np.testing.assert_array_equal(asked[0], plain[2])
    assert not np.array_equal(asked[1], plain[1])
    np.testing.assert_array_equal(encode(encoder, ["rain", "a", "b"], "document")[0], plain[0])


def test_bodies_that_are_too_large_are_sent_in_parts(
    serve: Callable[..., httpx.Client], connect: Connect
) -> None:
    url = url_of(serve(server__payload_limit=1024))
    texts = ["a text of some length " * 10 + str(place) for place in range(9)]
    assert encode(connect("ours", url), texts).shape == (9, 384)
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        encode(connect("ours", url), ["word " * 1000, "b", "c"])


class Busy(BaseHTTPRequestHandler):
    """Answers 429 twice, then vectors; has no ``/info``."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = 429 if len(self.answers) % 3 < 2 else 200
        self.answers.append(status)
        answer = json.dumps([[1.0, 0.0] for _ in body["inputs"]]).encode()
        self.send_response(status)
        self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_overloaded_server_is_asked_again(busy: str, connect: Connect) -> None:
    encoder = connect("another", busy)
    assert encoder.info == {}
    assert encode(encoder, ["a", "b", "c"]).shape == (3, 2)
    assert Busy.answers == [429, 429, 200]


def test_tasks_are_those_asked_for_or_those_with_data(data: Path) -> None:
    assert [task.metadata.name for task in choose_tasks([], data)] == ["STS13"]
    english = choose_tasks(["eng-v2"], None)
    assert len(english) == 41
    assert {"STSBenchmark", "ArguAna"} <= {task.metadata.name for task in english}
    for names, where, message in (
        (["STS13", "nothing"], None, "neither a task nor a benchmark 'nothing'"),
        ([], None, "either tasks or a directory"),
        ([], data.parent / "data" / "..", "neither a task nor a benchmark 'data'"),
    ):
        with pytest.raises(ConfigError, match=message):
            choose_tasks(names, where)


def test_a_task_reads_a_directory(data: Path) -> None:
    task: Any = mteb.get_task("STS13")
    assert use_local_data(task, data) == "4 of 1500 pairs"
    assert task.dataset["test"]["score"][:] == [5.0, 3.5, 2.0, 0.0]
    with pytest.raises(ConfigError, match=r"has no data of STS14: neither STS14\.tsv nor a folder"):
        use_local_data(mteb.get_task("STS14"), data)
    (data / "ArguAna.tsv").write_text("1\ta\tb\n")
    with pytest.raises(ConfigError, match="pairs with scores are for tasks of type STS"):
        use_local_data(mteb.get_task("ArguAna"), data)


def test_the_command_runs_what_it_has_and_tells_what_it_has_not(
    client: httpx.Client, data: Path, tmp_path: Path
) -> None:
    """With a copy of a data set of another type, and a task without data."""
    copy = data / "Banking77Classification"
    copy.mkdir()
    for split, count in (("train", 40), ("test", 8)):
        rows = [
            {"text": f"the {'guitar' if place % 2 else 'market'} of {place}", "label": place % 2}
            for place in range(count)
        ]
        lines = "\n".join(map(json.dumps, rows)) + "\n"
        (copy / f"{split}.jsonl").write_text(lines)
    (data / "STS14").mkdir()
    report = tmp_path / "report.md"
    kept = tmp_path / "results.json"
    earlier = Result("ours", {"backend": "eager"}, {"STS13": 12.34}, {"STS14": "none"}, 7)
    write_results(kept, {"ours": earlier})
    command = [sys.executable, "-m", "benchmarks.quality.mteb", "--data", str(data)]
    command += ["--url", f"ours={url_of(client)}", "--report", str(report)]
    done = subprocess.run(
        [*command, "--results", str(kept)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr[-2000:]
    text = report.read_text()
    assert "| model | Banking77Classification | STS13 | mean |" in text
    assert "| ours | 100.00 | 12.34 | 56.17 |" in text, "what was scored before is kept"
    result = read_results(kept)["ours"]
    assert result.scores == {"Banking77Classification": 100.0, "STS13": 12.34}
    assert result.texts == 7 + 48
    assert list(result.failures) == ["STS14"]
    assert "- STS13: 4 of 1500 pairs" in text
    assert "- STS14, ours: " in text
    assert str(tmp_path) not in text.partition("Not run")[0], "paths of a machine"


def test_a_server_that_is_not_there_is_told_before_anything_runs(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    url = f"ours=http://127.0.0.1:{free_port()}"
    assert main(["--data", str(data), "--url", url]) == 2
    assert f"--url {url}: no server answers there" in capsys.readouterr().err


def test_a_mean_is_of_all_tasks_or_of_none() -> None:
    whole = Result("a", {"backend": "eager"}, {"STS12": 61.0, "STS13": 79.0})
    part = Result("b", {}, {"STS12": 60.0}, {"STS13": "ConnectionError: no network"})
    text = make_report([whole, part], ["STS12", "STS13"], {}, {"hardware": "cpu"})
    assert "| a | 61.00 | 79.00 | 70.00 |" in text
    assert "| b | 60.00 | - | - |" in text
    assert "- STS13, b: ConnectionError: no network" in text
