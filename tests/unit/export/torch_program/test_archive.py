"""Members of ``.pt2`` files are checked before torch sees the file."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from osa.export.errors import ArtifactError
from osa.export.inspection import describe_artifact
from osa.export.manifest import hash_files, load_artifact
from osa.export.runner import open_runner
from osa.export.torch_program.archive import Archive
from tests.conftest import ArtifactMaker

WHERE = Path("model.pt2")


def packed(
    *members: tuple[zipfile.ZipInfo | str, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return target.getvalue()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o644) << 16
    return member


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a .pt2 file"),
        (b"PK\x05\x06" + bytes(18), "has 0 members"),
        (packed(("model/../../out", b"")), "leads outside"),
        (packed(("model/a", b""), ("/etc/out", b"")), "leads outside"),
        (packed(("model/a", b""), ("other/a", b"")), "leads outside"),
        (packed(("model/./a", b"")), "leads outside"),
        (packed(("model/a//b", b"")), "leads outside"),
        (packed(("model/a\\b", b"")), "not one of torch's"),
        (packed(("model/a\nb", b"")), "not one of torch's"),
        (packed((special("model/a", stat.S_IFLNK), b"/etc/passwd")), "is not a file"),
        (packed((special("model/a", stat.S_IFIFO), b"")), "is not a file"),
        (packed(("model/a", b"x" * 99), compression=zipfile.ZIP_DEFLATED), "is compressed"),
        (packed(("model/a", b"1"), ("model/A", b"2")), "comes twice"),
    ],
)
def test_what_torch_would_not_write_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        Archive(content, WHERE)


def flagged(flags: int) -> bytes:
    """An archive whose directory gives its member these flags."""
    content = bytearray(packed(("model/a", b"1")))
    place = content.index(b"PK\x01\x02") + 8
    content[place : place + 2] = flags.to_bytes(2, "little")
    return bytes(content)


@pytest.mark.parametrize("flags", [0x01, 0x10, 0x20, 0x40, 0x2000, 0x60])
def test_a_member_with_other_flags_is_refused(flags: int) -> None:
    """Zipfile and torch would each make of them what they like."""
    with pytest.raises(ArtifactError, match=r"'model/a' .* which torch does not write"):
        Archive(flagged(flags), WHERE)


@pytest.mark.parametrize("flags", [0, 0x02, 0x04, 0x08, 0x800, 0x80E])
def test_flags_that_change_nothing_are_allowed(flags: int) -> None:
    assert Archive(flagged(flags), WHERE).read("a") == b"1"


def test_a_member_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = packed(("model/a", b"1"), ("model/a", b"2"))
    with pytest.raises(ArtifactError, match="comes twice"):
        Archive(content, WHERE)


def test_what_is_rewritten_has_the_members_and_nothing_besides() -> None:
    content = b"#!/bin/sh\n" + packed(("model/a", b"1"), ("model/b/c", b"2"))
    again = Archive(Archive(content, WHERE).rewritten(), WHERE)
    assert list(again.names()) == ["a", "b/c"]
    assert again.read("b/c") == b"2"
    assert b"/bin/sh" not in Archive(content, WHERE).rewritten()


def change(artifact: Path, edit: Callable[[dict[str, bytes]], object]) -> None:
    """Edit the members of the program, and describe the result in the manifest."""
    file = artifact / "model.pt2"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    file.write_bytes(packed(*members.items()))
    values = json.loads((artifact / "artifact.json").read_text())
    size, digest = hash_files(artifact)["model.pt2"]
    values["files"]["model.pt2"] = {"size": size, "sha256": digest}
    (artifact / "artifact.json").write_text(json.dumps(values))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("ran", "w"))


def with_pickle(members: dict[str, bytes]) -> None:
    name = "model/data/weights/model_weights_config.json"
    values = json.loads(members[name])
    first = next(iter(values["config"].values()))
    members[f"model/data/weights/{first['path_name']}"] = pickle.dumps(Bomb())
    first["use_pickle"] = True
    members[name] = json.dumps(values).encode()


def with_code(members: dict[str, bytes]) -> None:
    members["model/data/aotinductor/model/a.wrapper.so"] = b"\x7fELF"


def with_a_way_out(members: dict[str, bytes]) -> None:
    members["model/../../escaped"] = b"x"


def with_sample_code(members: dict[str, bytes]) -> None:
    members["model/data/sample_inputs/model.pt"] = pickle.dumps(Bomb())


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (with_pickle, "has pickles"),
        (with_code, "has machine code"),
        (with_a_way_out, "leads outside"),
        (with_sample_code, ""),
    ],
)
def test_a_program_that_would_run_or_write_something_is_not_loaded(
    make_artifact: ArtifactMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[dict[str, bytes]], object],
    reason: str,
) -> None:
    artifact = shutil.copytree(make_artifact("torch-export"), tmp_path / "a" / "artifact")
    change(artifact, edit)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=reason or "Weights only load failed"):
        open_runner(load_artifact(artifact))
    if edit is with_a_way_out:
        with pytest.raises(ArtifactError, match=reason):
            describe_artifact(load_artifact(artifact))
    else:
        assert describe_artifact(load_artifact(artifact))["operators"]
    assert not list(tmp_path.rglob("ran")) + list(tmp_path.rglob("escaped"))
