"""Files of a model are read with kind and size checked first."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from osa.model.common import model_files
from osa.model.common.model_files import (
    JSON_LIMIT,
    AlteredFileError,
    UnfitFileError,
    check_listed,
    memory,
    open_file,
    parse_json,
    read_file,
    read_json,
    read_listed,
)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is a named pipe, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
        (Path.mkdir, "it is a directory, not a file"),
        (listen, "it is a socket, not a file"),
        (sparse, f"it has {1 << 40} bytes, allowed are {JSON_LIMIT}"),
        (lambda path: path.symlink_to("nothing"), "No such file or directory"),
    ],
)
def test_what_is_no_file_of_a_model_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make(Path("config.json"))
    with pytest.raises(OSError, match=reason) as caught:
        read_json(Path("config.json"))
    assert caught.value.strerror == reason


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """Caches of the hub and mounted volumes are made of links."""
    (tmp_path / "blob").write_text("[1]")
    (tmp_path / "config.json").symlink_to("blob")
    assert read_json(tmp_path / "config.json") == [1]


def test_a_file_that_is_longer_than_it_says_is_cut_off() -> None:
    with pytest.raises(UnfitFileError, match="more than 10 bytes"):
        read_file(Path("/proc/self/status"), 10)


@pytest.mark.parametrize("said", [0, 5])
def test_a_file_is_read_whole_whatever_size_its_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    content = bytes(3 * model_files.MIB + 7)
    (tmp_path / "vocab").write_bytes(content)
    fstat = os.fstat

    def facts(handle: int) -> os.stat_result:
        values = list(fstat(handle))
        values[stat.ST_SIZE] = said
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", facts)
    assert read_file(tmp_path / "vocab") == content
    assert read_file(tmp_path / "vocab", len(content)) == content
    for limit in (10, len(content) - 1):
        with pytest.raises(UnfitFileError, match=f"more than {limit} bytes"):
            read_file(tmp_path / "vocab", limit)


def header(entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not safetensors"),
        (b"\xff" * 100, "it is not safetensors"),
        ((10**8).to_bytes(8, "little") + b"{}", "it is not safetensors"),
        (header([]), "its header is damaged"),
        (header({"a": {"data_offsets": [0, "x"]}}), "its header is damaged"),
        (header({"a": {"data_offsets": [0, 4]}}), "its header describes"),
        (header({"a": {"data_offsets": [0, 1e999]}}), "its header is damaged"),
        ((10**5).to_bytes(8, "little") + b"[" * 10**5, "its header is damaged"),
    ],
)
def test_weights_are_compared_with_their_header(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(UnfitFileError, match=reason), open_file(file):
        pass


def test_weights_beyond_the_memory_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    head = header({"a": {"data_offsets": [0, 1 << 40]}})
    file.write_bytes(head)
    os.truncate(file, len(head) + (1 << 40))
    with pytest.raises(UnfitFileError, match=f"allowed are {memory()}"), open_file(file):
        pass


def test_a_container_has_less_memory_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = memory()
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text(f"{1 << 20}\n")
    monkeypatch.setattr(model_files, "MEMORY", (tmp_path / "none", tmp_path / "max"))
    assert memory() >= whole
    monkeypatch.setattr(model_files, "MEMORY", (tmp_path / "max", tmp_path / "limit"))
    assert memory() == 1 << 20


def test_nesting_without_an_end_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


@pytest.mark.parametrize("read", [read_listed, check_listed])
def test_a_listed_file_is_the_one_that_was_listed(
    tmp_path: Path, read: Callable[..., bytes | None]
) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert read(file, 2, digest) in (b"{}", None)
    with pytest.raises(AlteredFileError, match="has 2 bytes, the manifest says 3"):
        read(file, 3, digest)
    with pytest.raises(AlteredFileError, match="does not match its sha256"):
        read(file, 2, "0" * 64)
    with pytest.raises(AlteredFileError, match="more than the memory here"):
        read(file, 1 << 60, digest)
    with pytest.raises(UnfitFileError, match="it has 2 bytes, allowed are 1"):
        read(file, 2, digest, 1)
    os.truncate(file, JSON_LIMIT + 1)
    with pytest.raises(UnfitFileError, match=f"allowed are {JSON_LIMIT}"):
        read(file, JSON_LIMIT + 1, digest)
