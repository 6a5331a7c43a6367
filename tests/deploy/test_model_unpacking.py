"""The init container's unpacking: a model is whole or not there, and nothing else is written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.model_store import digest, packed, run, served, store


def content(target: Path) -> dict[str, str]:
    """Files of a directory by name, but what says that it is complete."""
    return {
        str(file.relative_to(target)): file.read_text()
        for file in target.rglob("*")
        if file.is_file() and file.name != ".complete"
    }


REFUSED: dict[str, tuple[list[tuple[str, bytes | str]], str]] = {
    "absolute": ([("/etc/passwd", b"x")], "'/etc/passwd' leaves the directory"),
    "above": ([("a/../../outside", b"x")], "leaves the directory"),
    "symbolic link": ([("model", tarfile.SYMTYPE.decode())], "pack with tar --dereference"),
    "hard link": ([("model", tarfile.LNKTYPE.decode())], "pack with tar --dereference"),
    "fifo": ([("model", tarfile.FIFOTYPE.decode())], "is neither a file nor a folder"),
    "device": ([("model", tarfile.CHRTYPE.decode())], "is neither a file nor a folder"),
    "twice": ([("a", b"1"), ("./a", b"2")], "holds 'a' twice"),
    "our own": ([(".complete", b"{}")], "this program's own files"),
    "many": ([(f"f{n}", b"") for n in range(10_001)], "more than 10000 files"),
    "file as a folder": ([("a", b"1"), ("a/b", b"2")], "exists"),
    "long name": ([("n" * 300, b"1")], "File name too long"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_member_that_no_model_has_is_refused_and_what_was_there_stays(
    tmp_path: Path, case: str
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    good = packed(("model/config.json", b"first"))
    with store(good, []) as (url, _):
        assert run(url, digest(good), target).returncode == 0
    complete = (target / ".complete").read_text()
    members, message = REFUSED[case]
    told = served(packed(("model/config.json", b"other"), *members), target)
    assert told.startswith("fetch_model: ")
    assert message in told
    assert content(target) == {"model/config.json": "first"}
    assert (target / ".complete").read_text() == complete
    assert sorted(file.name for file in target.iterdir()) == [".complete", "model"]
    assert not (tmp_path / "outside").exists()


def test_another_model_keeps_no_file_of_the_last_one(tmp_path: Path) -> None:
    target = tmp_path / "models"
    (target / ".unpacking-killed" / "model").mkdir(parents=True)
    for members in (
        [("model/config.json", b"1"), ("model/pooling.json", b"1"), ("old/x", b"1")],
        [("model/config.json", b"2"), ("./new/y", b"2")],
    ):
        body = packed(*members)
        with store(body, []) as (url, _):
            assert run(url, digest(body), target).returncode == 0
    assert content(target) == {"model/config.json": "2", "new/y": "2"}
    told = json.loads((target / ".complete").read_text())
    assert told == {"sha256": digest(body), "files": {"model/config.json": 1, "new/y": 1}}


def test_a_model_that_lost_a_file_is_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    body = packed(("a", b"1"), ("b", b"2"))
    with store(body, []) as (url, handler):
        for damage in (lambda: None, (target / "b").unlink, lambda: (target / "a").write_text("")):
            damage()
            assert run(url, digest(body), target).returncode == 0
            assert content(target) == {"a": "1", "b": "2"}
        assert len(handler.asked) == 3


def bomb() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("model/zeros")
        member.size = 64 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return made.getvalue()


@pytest.mark.parametrize(
    ("make", "breaks"),
    [(bomb, []), (lambda: bytes(2 << 20), []), (lambda: bytes(2 << 20), ["unsaid"])],
    ids=["content", "archive", "archive of an untold size"],
)
def test_no_more_than_the_limit_is_written(
    tmp_path: Path, make: Callable[[], bytes], breaks: list[str]
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    assert "larger than the limit (model.sizeLimit)" in served(make(), target, breaks, "1Mi")
    assert list(target.iterdir()) == []


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    for body in (packed(), packed(("a", tarfile.DIRTYPE.decode()))):
        target = tmp_path / digest(body)
        target.mkdir()
        assert "no tar archive that can be unpacked" in served(body, target)


def test_a_head_that_claims_gigabytes_does_not_take_the_memory(tmp_path: Path) -> None:
    target, memory = tmp_path / "models", 160 << 20
    target.mkdir()
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XHDTYPE, memory
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.fileobj.write(head.tobuf())
        for _ in range(memory >> 20):
            archive.fileobj.write(bytes(1 << 20))
    (target / ".archive").write_bytes(made.getvalue())
    source, sha256 = str(target / ".archive"), digest(made.getvalue())
    done = run(source, sha256, target, before=f"m.MOST_MEMORY = {memory}; ")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "no tar archive that can be unpacked: it takes too much memory" in done.stderr


def test_what_is_no_archive_or_leaves_its_directory_is_refused(tmp_path: Path) -> None:
    target, evil = tmp_path / "models", tmp_path / "evil.tar"
    target.mkdir()
    (tmp_path / "file").write_text("x")
    with tarfile.open(evil, "w") as members:
        members.add(tmp_path / "file", "../outside")
    for body in (b"not an archive", evil.read_bytes()):
        with store(body, []) as (url, _):
            done = run(url, digest(body), target)
        assert done.returncode == 1
        assert "no tar archive that can be unpacked" in done.stderr
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_broken_archive_is_told_in_one_line(tmp_path: Path, mode: str, damage: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("model/weights")
        member.size = 100_000
        archive.addfile(member, io.BytesIO(hashlib.shake_256(b"").digest(member.size)))
    body = made.getvalue()
    body = body[: len(body) // 2] if damage == "cut" else b"\xff" * 600 + body[600:]
    target = tmp_path / "models"
    target.mkdir()
    assert "no tar archive that can be unpacked" in served(body, target)
    assert list(target.iterdir()) == []


def test_a_refused_archive_of_another_container_is_left_to_it(tmp_path: Path) -> None:
    """That container does not run again: the second attempt must say what the first one said."""
    (tmp_path / ".archive").write_bytes(b"no archive")
    told = {run(str(tmp_path / ".archive"), "0" * 64, tmp_path).stderr for _ in range(2)}
    assert len(told) == 1
    assert "expected " + "0" * 64 in told.pop()
