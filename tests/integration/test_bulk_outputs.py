"""``osa embed``: existing output is kept or resumed; empty remains do not block a run."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from osa.model.errors import ConfigError
from osa.service.bulk.output_parts import Parts
from osa.service.bulk.run_directory import discard
from tests.conftest import Embed

HANDLES = Path("/proc/self/fd")
TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    " the mat ",
    "cat " * 90,
    "a\u2028dog\u0085sat",
    "the cat, the dog and the mat",
]


def test_an_output_that_exists_is_never_written_over(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    assert embed(tmp_path / "a.txt") == 0
    made = (tmp_path / "out.parquet").read_bytes()
    assert embed(tmp_path / "a.txt") == 2
    assert embed(tmp_path / "a.txt", options="--resume") == 0, "it is finished: nothing to do"
    (tmp_path / "a.txt").write_text("a longer cat\n")
    assert embed(tmp_path / "a.txt", options="--resume") == 2
    assert "out.parquet exists" in capsys.readouterr().err
    assert (tmp_path / "out.parquet").read_bytes() == made


def test_a_run_to_go_on_with_is_the_same_job_on_the_same_input(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, groups = tmp_path / "a.txt", "--rows-per-group 2"
    file.write_text("\n".join([*TEXTS, "", "a dog"]))
    assert embed(file, options=groups) == 1
    parts = sorted((tmp_path / "out.parquet.partial").glob("part-*"))
    assert len(parts) == 3, "what came before the bad record is kept"

    def refusal(code: int, options: str) -> str:
        assert embed(file, options=f"{groups} {options}") == code
        return capsys.readouterr().err

    assert "unfinished run: --resume goes on with it" in refusal(2, "")
    assert "was begun with dimensions 16, now it is 8" in refusal(2, "--dimensions 8 --resume")
    file.write_text("\n".join([TEXTS[1], TEXTS[0], *TEXTS[2:]]))
    assert "the input has changed since" in refusal(1, "--resume")
    file.write_text("\n".join(TEXTS[:3]))
    assert "the input" in refusal(1, "--resume")
    for shorter in ("\n".join(TEXTS[:4]), ""):
        file.write_text(shorter)
        assert "the input is shorter than when" in refusal(1, "--resume")
    file.write_text("\n".join([*TEXTS, "a dog"]))
    assert embed(file, options=f"{groups} --resume") == 0, "the bad line is gone"
    assert pq.read_table(tmp_path / "out.parquet").column("text").to_pylist() == [*TEXTS, "a dog"]


@pytest.mark.parametrize("stop", [b"", b"\xff\n"], ids=["no text", "bad first record"])
def test_a_run_that_finished_nothing_is_not_in_the_way(
    stop: bytes, embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(stop)
    assert embed(file) == 1
    assert not (tmp_path / "out.parquet.partial").exists()
    file.write_text("a cat\n")
    assert embed(file, options="--dimensions 8") == 0, "another job, too"
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1


def test_a_run_that_was_killed_before_its_first_part_is_not_in_the_way(
    embed: Embed, tmp_path: Path
) -> None:
    partial = tmp_path / "out.parquet.partial"
    partial.mkdir()
    (partial / "job.json").write_text('{"dtype": "float16"}')
    (partial / "lock").touch()
    (partial / "part-000000.parquet.tmp").write_bytes(b"half")
    (tmp_path / "a.txt").write_text("a cat\n")
    assert embed(tmp_path / "a.txt") == 0
    assert not partial.exists()


def test_the_output_is_parquet_and_is_named_so(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    for name in ("out.csv", "out", "out.parquet.gz"):
        assert embed(tmp_path / "a.txt", output=name) == 2
        assert "is written as Parquet: its name must end with .parquet" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
    assert embed(tmp_path / "a.txt", output="OUT.PARQUET") == 0


def test_one_run_at_a_time_works_on_an_output(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    held = Parts(tmp_path / "out.parquet", {}, resume=False)
    assert embed(tmp_path / "a.txt", options="--resume") == 2
    assert "another process works on" in capsys.readouterr().err
    held.close()


def test_what_lies_beyond_a_link_is_left_alone(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    other, partial = tmp_path / "other", tmp_path / "out.parquet.partial"
    other.mkdir()
    for name in ("part-000000.parquet.tmp", "job.json", "lock"):
        (other / name).write_text("theirs")
    partial.symlink_to(other)
    for options in ("", "--resume"):
        assert embed(tmp_path / "a.txt", options=options) == 2
        assert "out.parquet.partial is a link, which is not followed" in capsys.readouterr().err
    assert {file.read_text() for file in other.iterdir()} == {"theirs"}
    partial.unlink()
    (tmp_path / "out.parquet").symlink_to(tmp_path / "nothing")
    assert embed(tmp_path / "a.txt") == 2
    assert "out.parquet is a link" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_files_within_the_parts_are_not_followed_either(embed: Embed, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    victim, partial = tmp_path / "victim", tmp_path / "out.parquet.partial"
    victim.write_text("theirs")
    partial.mkdir()
    for name in ("job.json", "job.json.tmp", "part-000000.parquet.tmp", "output.parquet.tmp"):
        (partial / name).symlink_to(victim)
    assert embed(tmp_path / "a.txt", options="--resume") == 0
    assert victim.read_text() == "theirs"
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1


def test_only_files_of_the_run_are_removed(embed: Embed, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    partial = tmp_path / "out.parquet.partial"
    partial.mkdir()
    (partial / "notes.tmp").write_text("mine")
    assert embed(tmp_path / "a.txt", options="--resume") == 0
    assert [file.name for file in partial.iterdir()] == ["notes.tmp"]
    (partial / "job.json").write_text('{"other": "job"}')
    (partial / "part-000000.parquet").write_text("of another run")
    assert embed(tmp_path / "a.txt", options="--resume") == 0, "it is finished"
    assert (partial / "part-000000.parquet").exists()


def test_damaged_parts_are_refused_in_a_line(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("\n".join([*TEXTS, ""]) + "\n")
    partial = tmp_path / "out.parquet.partial"
    assert embed(tmp_path / "a.txt", options="--rows-per-group 2") == 1
    job = (partial / "job.json").read_bytes()
    (partial / "job.json").write_text("{")
    assert embed(tmp_path / "a.txt", options="--rows-per-group 2 --resume") == 2
    assert "job.json is damaged" in capsys.readouterr().err
    (partial / "job.json").write_bytes(job)
    (partial / "part-000001.parquet").write_bytes(b"PAR1")
    assert embed(tmp_path / "a.txt", options="--rows-per-group 2 --resume") == 1
    assert "part-000001.parquet is damaged" in capsys.readouterr().err
    (partial / "part-000001.parquet").unlink()
    assert embed(tmp_path / "a.txt", options="--rows-per-group 2 --resume") == 2
    assert "but not all before it" in capsys.readouterr().err
    (partial / "part-000000.parquet").unlink()
    (partial / "output.parquet").write_text("to look at")
    assert embed(tmp_path / "a.txt", options="--rows-per-group 2 --resume") == 2
    assert "holds part-000002.parquet, but not all before it" in capsys.readouterr().err
    assert (partial / "job.json").read_bytes() == job
    assert (partial / "output.parquet").read_text() == "to look at"


def test_what_cannot_be_discarded_is_told_and_nothing_stays_open(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    assert embed(tmp_path / "a.txt") == 0
    partial = tmp_path / "out.parquet.partial"
    partial.mkdir()
    (partial / "job.json").write_text("{")

    def is_open(place: Path) -> bool:
        return any(os.path.realpath(one).startswith(str(place)) for one in HANDLES.iterdir())

    with pytest.raises(ConfigError, match=r"job.json is damaged"):
        discard(tmp_path / "out.parquet", {})
    assert not is_open(partial.resolve())
    (partial / "job.json").unlink()
    held = Parts(tmp_path / "out.parquet", {}, resume=True)
    handles = len(list(HANDLES.iterdir()))
    with pytest.raises(ConfigError, match="another process works on"):
        discard(tmp_path / "out.parquet", {})
    assert len(list(HANDLES.iterdir())) == handles
    held.close()


@pytest.mark.parametrize(
    "note", [b"[]", b"[" * 100_000, b"9" * 5000, b"{", b"\xff", b'{"job": {}}']
)
def test_an_output_whose_note_is_damaged_is_refused_in_a_line(
    note: bytes, embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    table = pa.table({"text": ["a cat"]}).replace_schema_metadata({b"osa": note})
    pq.write_table(table, tmp_path / "out.parquet")
    assert embed(tmp_path / "a.txt", options="--resume") == 2
    told = capsys.readouterr().err
    assert "out.parquet exists and is no output of osa embed" in told
    assert "Traceback" not in told


def test_a_run_does_not_go_on_with_another_reading(
    embed: Embed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, groups = tmp_path / "a.csv", "--rows-per-group 1"
    file.write_text('text\na cat\n"a \\n dog"\n\xff\n', encoding="latin-1")
    assert embed(file, options=f"{groups} --escape none") == 1
    for said, message in (
        ("--escape \\", "was begun with escape none, now it is \\"),
        ("--escape none --format csv", "was begun with format None, now it is csv"),
        ("--escape none --delimiter ;", "was begun with delimiter None, now it is ;"),
    ):
        assert embed(file, options=f"{groups} {said} --resume") == 2
        assert message in capsys.readouterr().err
    file.write_text('text\na cat\n"a \\n dog"\n')
    assert embed(file, options=f"{groups} --escape none --resume") == 0


def test_an_output_that_appears_meanwhile_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.parquet"
    parts = Parts(output, {}, resume=False)
    table = pa.table({"text": ["a cat"]})
    parts.append(table, {"texts": 1, "tokens": 1, "truncated": 0, "skipped": {}, "failed": []})
    output.write_text("theirs")
    with pytest.raises(ConfigError, match="exists by now"):
        parts.finish(table.schema, {})
    parts.close()
    assert output.read_text() == "theirs"
