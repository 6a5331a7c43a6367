"""Keys files that are no keys files: refused at once, with what is wrong and no more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.service.auth import entries
from osa.service.auth.api_keys import KeyFile, make_key
from osa.service.auth.entries import MAX_BYTES, read_entries
from osa.service.errors import QuotaError
from tests.conftest import wait_until

SECRET, ENTRY = make_key("team", 1000, admin=False)
HASH = "0" * 64
HEAD = f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 50_000) + " = 1",
        HEAD + ".".join("a" * 500) + " = 1",
        HEAD + "x = " + "[" * 100_000,
        HEAD + "x = " + "{a = " * 200,
        HEAD + "tokens_per_minute = 1" + "0" * 5000,
        HEAD + 'x = """\n' + "a\n" * 100_000 + '"""',
        HEAD + 'x = "' + "\\" * 1000,
        "[keys]\n" * 10_000,
        HEAD + "".join(f"x{n} = 1\n" for n in range(200_000)),
    ],
)
def test_no_content_makes_reading_slow(tmp_path: Path, text: str) -> None:
    file, started = write(tmp_path, text), time.process_time()
    with pytest.raises(ConfigError) as refused:
        read_entries(file)
    assert time.process_time() - started < 1.0, "100 kB of dots took 37 s"
    assert len(str(refused.value)) < 400 + len(str(file))


@pytest.mark.parametrize("kind", ["a FIFO", "a device", "a directory", "a socket"])
def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys.toml"
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a directory":
        path.mkdir()
    else:
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    with pytest.raises(ConfigError, match=f"it is {kind}, not a regular file"):
        read_entries(path)


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 2**40)
    with pytest.raises(ConfigError, match=f"more than {MAX_BYTES} bytes"):
        read_entries(file)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("tokens_per_minute = 0", "tokens_per_minute must be an integer from 1"),
        ("tokens_per_minute = -5", "tokens_per_minute must be an integer from 1"),
        ("tokens_per_minute = nan", "tokens_per_minute must be an integer from 1"),
        ("tokens_per_minute = 1e999", "tokens_per_minute must be an integer from 1"),
        ("tokens_per_minute = true", "tokens_per_minute must be an integer from 1"),
        ("tokens_per_minute = 1" + "0" * 400, "tokens_per_minute must be an integer from 1"),
        ("max_request_tokens = 5", "max_request_tokens needs tokens_per_minute"),
        ("weight = 0", "weight must be an integer from 1 to 1000"),
        ("admin = 1", "admin must be true or false"),
        ("name = 'b'", "is not TOML: Cannot overwrite a value"),
        ("quota = 1", "must have name and sha256, and may have"),
        ("a.b = 1", "line 4 is neither"),
        ("keys = [1]", "line 4 is neither"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_entries(write(tmp_path, HEAD + field + "\n"))


@pytest.mark.parametrize("name", ["", "a" * 129, "\\u001b[31m", "a\\nb", "\\u202e", "\\u0085"])
def test_names_are_what_a_terminal_can_show(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="1 to 128 printable characters"):
        read_entries(write(tmp_path, f'[[keys]]\nname = "{name}"\nsha256 = "{HASH}"\n'))
    with pytest.raises(ConfigError, match="1 to 128 printable characters"):
        make_key(name.encode().decode("unicode_escape"), None, admin=False)


def test_everything_that_a_keys_file_may_hold_is_read(tmp_path: Path) -> None:
    text = (
        "\ufeff# of the team\r\n\r\n [[ keys ]] # first\r\n"
        f"name = \"Größe\" # a name\r\nsha256='{HASH}'\r\n"
        "tokens_per_minute = 1_000\r\nmax_request_tokens = 0x1000\r\nweight = 3\r\nadmin=true\r\n"
        + ENTRY
    )
    first, second = read_entries(write(tmp_path, text)).values()
    assert first == ("Größe", HASH, 1000, 4096, 3, True)
    assert second[0] == "team"
    assert second[2:] == (1000, 1000, 1, False)
    _, made = make_key("team", 5, admin=True, max_request_tokens=9, weight=2)
    (third,) = read_entries(write(tmp_path, made)).values()
    assert third[2:] == (5, 9, 2, True)


def test_what_is_wrong_later_is_logged_and_the_keys_stay_with_their_debts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("osa.service.auth.api_keys.LOOK_S", 0.0)
    file = write(tmp_path, ENTRY)
    keys, sent = KeyFile(file), {"x-api-key": SECRET}

    def bucket_after(change: object, logged: str) -> None:
        caplog.clear()
        wait_until(lambda: keys.check(sent) is not None and logged in caplog.text)

    first = keys.check(sent).bucket
    assert first is not None
    first.take(1000)
    file.unlink()
    os.mkfifo(file)
    bucket_after(file, "keys file is wrong")
    assert "it is a FIFO" in str(caplog.records[-1].__dict__["why"])
    file.unlink()
    write(tmp_path, "a." * 400 + "a = 1")
    bucket_after(file, "keys file is wrong")
    file.unlink()
    bucket_after(file, "keys file is wrong")
    monkeypatch.setattr(entries, "_LINE", None)  # a fault of our own
    write(tmp_path, ENTRY)
    bucket_after(file, "keys file is wrong")
    assert caplog.records[-1].__dict__["why"] == "AttributeError"
    monkeypatch.undo()
    monkeypatch.setattr("osa.service.auth.api_keys.LOOK_S", 0.0)
    caplog.set_level("INFO")
    write(tmp_path, ENTRY.replace("1000", "500") + "\n")
    bucket_after(file, "keys file was read")
    assert keys.check(sent).bucket is first
    assert (first.per_minute, first.most) == (500, 500)
    with pytest.raises(QuotaError):
        first.take(400)
    assert SECRET not in caplog.text


def test_the_event_loop_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that does not answer holds one thread, and no request."""
    import threading

    gate, calls = threading.Event(), []

    def hang(path: Path) -> None:
        calls.append(path)
        gate.wait(60)

    monkeypatch.setattr("osa.service.auth.api_keys.LOOK_S", 0.0)
    keys = KeyFile(write(tmp_path, ENTRY))
    monkeypatch.setattr("osa.service.auth.api_keys.stamp_of", hang)
    for _ in range(100):
        assert keys.check({"x-api-key": SECRET}).name == "team"
    gate.set()
    assert len(calls) == 1
