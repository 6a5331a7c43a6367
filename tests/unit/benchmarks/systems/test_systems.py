"""The comparison of systems: all are there, a small run from texts to files, and it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.systems.__main__ import main
from benchmarks.systems.report import Row, render
from benchmarks.systems.store import Store
from benchmarks.systems.systems import RULES, SIZES, SMOKE_SIZES, all_systems
from osa.model.layers.mixers import MIXERS


def test_every_mixer_and_rule_can_be_built_in_the_same_sizes() -> None:
    systems = {system.name: system for system in all_systems()}
    assert set(systems) == {*MIXERS, *RULES}
    assert all(system.parameters(SMOKE_SIZES) > 0 for system in systems.values())
    counts = {name: system.parameters(SIZES) for name, system in systems.items()}
    assert counts["softmax"] == counts["osa"] - 36
    assert counts["ffn none"] < counts["osa"] / 2
    assert counts["linear monarch"] < counts["osa"] / 10


def test_a_store_goes_on_after_an_incomplete_line(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    store = Store(file)
    assert store.get("one", lambda: {"value": 1}) == {"value": 1}
    with file.open("a") as opened:
        opened.write('{"key": "tw')
    again = Store(file)
    assert again.get("one", lambda: pytest.fail("it is known")) == {"value": 1}
    again.get("two", lambda: {"value": 2})
    assert Store(file).found == {"one": {"value": 1}, "two": {"value": 2}}


def test_what_was_not_measured_is_a_dash() -> None:
    row = Row(
        "osa", 5_000_000, {"sts": [70.0, 72.0]}, costs={32: {"us": 50.0, "bytes": 2048}, 64: {}}
    )
    text = render([row], [32, 64], {"hardware": "cpu"}, [])
    assert "| osa | 5.00 M | 71.0 ± 1.0 | - | - |" in text
    assert "| osa | 50.0 | - | 2.0 | - |" in text


def test_a_small_run_writes_a_report_and_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.txt"
    words = ("cat", "dog", "barn", "river", "stone")
    texts.write_text("\n".join(f"the {a} and a {b}" for a in words for b in words))
    command = ["--texts", str(texts), "--held-out", str(texts), "--smoke", "--lengths", "8,40"]
    command += ["--systems", "osa,bottleneck 64", "--work", str(tmp_path / "work")]
    command += ["--phases", "start,cost"]
    command += ["--output", str(tmp_path / "reports")]
    assert main(command) == 0
    first = capsys.readouterr().out
    (report,) = (tmp_path / "reports").glob("*.md")
    content = json.loads(report.with_suffix(".json").read_text())
    assert [system["name"] for system in content["systems"]] == ["osa", "bottleneck 64"]
    assert all(system["costs"]["8"]["us"] > 0 for system in content["systems"])
    assert all(0 <= s["scores"]["digits with skips"][0] <= 1 for s in content["systems"])
    assert len(list((tmp_path / "reports").glob("*.svg"))) == 1
    before = (tmp_path / "work" / "smoke" / "results.jsonl").read_bytes()
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "work" / "smoke" / "results.jsonl").read_bytes() == before
    assert all(system["costs"]["40"]["bytes"] > 0 for system in content["systems"])


def test_a_small_run_on_pairs_is_scored_by_its_passages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    words = ("cat", "dog", "barn", "river", "stone")
    made = [{"query": f"a {a} and a {b}", "passage": f"{b} by {a}"} for a in words for b in words]
    pairs.write_text("\n".join(map(json.dumps, made)))
    command = ["--train-pairs", str(pairs), "--pairs", str(pairs), "--smoke", "--updates", "4"]
    command += ["--systems", "osa completed", "--work", str(tmp_path / "work")]
    assert main([*command, "--phases", "contrastive"]) == 0
    assert "MRR@10, on pairs" in capsys.readouterr().out
    trained = json.loads(
        (tmp_path / "work" / "smoke" / "results.jsonl").read_text().splitlines()[0]
    )
    assert trained["key"].startswith("train contrastive-4 0")
    config = json.loads((Path(trained["directory"]) / "config.json").read_text())
    assert config["osa_pool"]
    pairs.write_text("\n".join(map(json.dumps, made[1:])))
    with pytest.raises(SystemExit):
        main([*command, "--phases", "contrastive"])
    assert "holds results of other --train-pairs: pass another --work" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--systems", "mamba", "--phases", "start"], "systems are osa, softmax"),
        (["--phases", "speed"], "phases are start, cost, quality, contrastive, got"),
        ([], "needs --texts and --held-out"),
        (["--phases", "contrastive", "--updates", "3"], "needs --train-pairs and --updates"),
    ],
)
def test_wrong_commands_are_refused(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(command)
    assert message in capsys.readouterr().err
