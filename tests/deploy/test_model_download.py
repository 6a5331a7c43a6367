"""The init container's script against a real HTTP server, with every kind of failure."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from tests.deploy.model_store import ENDLESS, digest, packed, run, served, store


@pytest.fixture
def archive(tiny_checkpoint: Path, tmp_path: Path) -> bytes:
    file = tmp_path / "model.tar.gz"
    with tarfile.open(file, "w:gz") as members:
        members.add(tiny_checkpoint, "model")
    return file.read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_model_arrives_over_a_bad_line_and_loads(
    archive: bytes, tmp_path: Path, ranges: bool
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with store(archive, ["503", "cut", "cut"], ranges) as (url, handler):
        done = run(url, digest(archive), target)
        assert done.returncode == 0, done.stderr
        assert len(handler.asked) == 4
        assert any(handler.asked)  # it continued where it stopped
        again = run(url, digest(archive), target)
        assert again.returncode == 0
        assert len(handler.asked) == 4, "a finished download is not repeated"
    assert not (target / ".archive").exists()
    assert EmbeddingModel.from_pretrained(target / "model").config.hidden_size == 16


@pytest.mark.parametrize(
    ("breaks", "sha256", "message"),
    [
        ([], "0" * 64, "expected " + "0" * 64),
        (["404"], None, "HTTP 404"),
        (["503"] * 6, None, "HTTP 503"),
    ],
)
def test_a_download_that_fails_says_why(
    archive: bytes, tmp_path: Path, breaks: list[str], sha256: str | None, message: str
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with store(archive, breaks) as (url, _):
        done = run(url, sha256 or digest(archive), target)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.iterdir()) == []


def test_an_archive_that_another_container_brought(archive: bytes, tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    (target / ".archive").write_bytes(archive)
    assert run(str(target / ".archive"), digest(archive), target).returncode == 0
    assert (target / "model" / "config.json").is_file()


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/again", ""])
def test_redirects_lead_to_http_alone_and_end(tmp_path: Path, place: str) -> None:
    target = tmp_path / "models"
    target.mkdir()
    told = served(packed(("a", b"1")), target, [f"to {place}"] * 20)
    assert "refused" in told or "a redirect that is not followed" in told
    assert list(target.iterdir()) == []


def test_a_redirect_does_not_leave_https(tmp_path: Path) -> None:
    asked = "m.urllib.request.Request('https://a/b')"
    leave = (
        f"m.download = lambda *_: m.Redirects().redirect_request({asked}, *[None] * 4, 'http://a')"
    )
    done = run("https://a/b", "0" * 64, tmp_path, before=f"{leave}; ")
    assert (done.returncode, done.stderr) == (
        1,
        "fetch_model: https://a/b redirects from https to http: refused\n",
    )


def test_a_few_redirects_are_followed(tmp_path: Path) -> None:
    body = packed(("a", b"1"))
    with store(body, ["to /b", "to /c"]) as (url, _):
        assert run(url, digest(body), tmp_path).returncode == 0


@pytest.mark.parametrize(
    "source",
    ["file:///etc/passwd", "ftp://a/b", "/etc/passwd", "http://", "http://[x", "http://a:b/c",
     "http://user:hidden@host/x", "http://a/\u00e9", "http://a/b c", "HTTP://a/\x01", ""],
)  # fmt: skip
def test_a_source_that_is_none_is_told_in_one_line(tmp_path: Path, source: str) -> None:
    done = run(source, "0" * 64, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "give an http(s) address" in done.stderr
    assert "hidden" not in done.stderr


def test_a_signature_in_the_address_is_not_told(tmp_path: Path) -> None:
    with store(b"", ["404"]) as (url, _):
        done = run(f"{url}?X-Amz-Signature=hidden", "0" * 64, tmp_path)
    assert "HTTP 404" in done.stderr
    assert "hidden" not in done.stderr


def test_a_limit_that_is_no_quantity_is_told(tmp_path: Path) -> None:
    done = run("http://a/b", "0" * 64, tmp_path, "8GB")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "'8GB'" in done.stderr


def test_a_download_that_crawls_is_begun_again(tmp_path: Path) -> None:
    body = packed(("a", bytes(5000)))
    with store(body, ["slow"]) as (url, handler):
        hasty = "m.TIMEOUT_S = 0.25; m.LEAST_RATE = 1e6; "
        done = run(url, digest(body), tmp_path, before=hasty)
    assert done.returncode == 0, done.stderr
    assert "bytes came in" in done.stderr
    assert handler.asked[1] is not None, "it goes on where it stopped"


@pytest.mark.parametrize("fault", ENDLESS)
def test_an_answer_without_an_end_is_given_up(tmp_path: Path, fault: str) -> None:
    body = packed(("a", b"1"))
    hasty = "m.TIMEOUT_S = 0.5; m.http.client._MAXHEADERS = 10**6; "
    with store(body, [fault]) as (url, handler):
        done = run(url, digest(body), tmp_path, before=hasty)
    assert done.returncode == 0, done.stderr
    assert len(handler.asked) == 2
    followed = fault == "redirect"  # its body is not read
    assert ("nothing usable has come within 0.5 s" in done.stderr) is not followed


def test_an_archive_that_changes_during_the_download_is_not_mixed(tmp_path: Path) -> None:
    old, new = packed(("a", b"1" * 3000)), packed(("a", b"2" * 3000))
    with store(old, ["replaced"]) as (url, handler):
        handler.replaced = new
        done = run(url, digest(new), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_text() == "2" * 3000
