"""Models of the hub by the real client against a server on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from osa.model.common.hub_reference import parse_reference
from osa.model.download.hub_client import HubClient
from osa.model.download.models import HubModel, fetch_model, local_path
from osa.model.download.record import measure, record_file
from osa.model.errors import DownloadError
from tests.hub_server import Hub, running_hub

SMALL = parse_reference("hf:acme/small")
FOREIGN = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(5000),
    "tokenizer.json": b"{}",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "pytorch_model.bin": b"pickle" * 1000,
    "modeling_custom.py": b"raise SystemExit",
}
TAKEN = sorted(set(FOREIGN) - {"pytorch_model.bin", "modeling_custom.py"})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> HubClient:
    return HubClient(hub.url, tmp_path / "cache")


def files_of(model: HubModel) -> list[str]:
    files = (file for file in model.path.rglob("*") if file.is_file())
    return sorted(str(file.relative_to(model.path)) for file in files)


def test_a_model_is_downloaded_once_and_served_by_its_record(
    hub: Hub, client: HubClient, tiny_checkpoint: Path, tiny_model: EmbeddingModel
) -> None:
    commit = hub.add("acme/small").publish_directory(tiny_checkpoint)
    told: list[str] = []
    model = fetch_model(SMALL, progress=told.append, client=client)
    assert (model.commit, model.fetched) == (commit, True)
    assert model.path.name == commit
    assert told[0].startswith(f"downloading hf:acme/small from {hub.url}: 4 files, 0.0 MB")
    assert commit in told[-1]
    loaded = EmbeddingModel.from_pretrained(model.path)
    assert loaded.encode(["the cat"]).equal(tiny_model.encode(["the cat"]))
    record = json.loads(record_file(client.cache, SMALL).read_text())
    assert (record["repository"], record["revision"]) == ("acme/small", "main")
    assert (record["commit"], record["endpoint"]) == (commit, hub.url)
    for file in tiny_checkpoint.iterdir():
        assert record["files"][file.name] == measure(file)._asdict()
    asked = len(hub.asked)
    again = fetch_model(SMALL, client=client)
    assert again == HubModel(model.path, commit, False)
    assert len(hub.asked) == asked, "a recorded model needs no network"


def test_the_cache_stays_one_that_tools_of_the_hub_read(hub: Hub, client: HubClient) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    repository = hub.add("acme/small")
    repository.publish(FOREIGN)
    commit = repository.publish(FOREIGN, branch="refs/pr/1")
    for reference in (SMALL, parse_reference("hf:acme/small@refs/pr/1")):
        path = fetch_model(reference, client=client).path
    found = scan_cache_dir(client.cache)
    assert found.warnings == []
    ((revision,),) = (each.revisions for each in found.repos)
    assert (revision.commit_hash, revision.refs) == (commit, frozenset({"main", "refs/pr/1"}))
    local = snapshot_download("acme/small", cache_dir=client.cache, local_files_only=True,
                              allow_patterns="config.json")  # fmt: skip
    assert Path(local) == path


def test_nothing_but_the_model_is_downloaded(hub: Hub, client: HubClient) -> None:
    hub.add("acme/small").publish(FOREIGN)
    assert files_of(fetch_model(SMALL, client=client)) == TAKEN
    assert not [path for _, path, _ in hub.asked if path.endswith((".bin", ".py"))]


def test_a_broken_connection_goes_on_where_it_ended(hub: Hub, client: HubClient) -> None:
    weights = os.urandom(13 << 20)
    hub.add("acme/small").publish({**FOREIGN, "model.safetensors": weights})
    hub.cuts = 1
    model = fetch_model(SMALL, client=client)
    assert hub.cuts == 0
    ranges = [wanted for _, path, wanted in hub.asked if path.startswith("/store/") and wanted]
    assert len(ranges) == 1
    assert int(ranges[0].removeprefix("bytes=").removesuffix("-")) >= 10 << 20
    assert (model.path / "model.safetensors").read_bytes() == weights


def test_a_branch_that_moved_is_followed_when_asked(hub: Hub, client: HubClient) -> None:
    repository = hub.add("acme/small")
    first = repository.publish(FOREIGN)
    pinned = parse_reference(f"hf:acme/small@{first}")
    assert fetch_model(SMALL, client=client).commit == first
    second = repository.publish({**FOREIGN, "config.json": b'{"a": 1}'})
    assert fetch_model(SMALL, client=client).commit == first
    assert fetch_model(SMALL, refresh=True, client=client).commit == second
    assert fetch_model(SMALL, client=client).commit == second
    assert fetch_model(pinned, refresh=True, client=client).commit == first
    asked = len(hub.asked)
    assert fetch_model(pinned, client=client).path.name == first
    assert len(hub.asked) == asked


@pytest.mark.parametrize("content", [b"x" * 5000, b"short"])
def test_a_changed_file_is_named_and_replaced_when_asked(
    hub: Hub, client: HubClient, content: bytes
) -> None:
    hub.add("acme/small").publish(FOREIGN)
    model = fetch_model(SMALL, client=client)
    weights = model.path / "model.safetensors"
    weights.resolve().write_bytes(content)
    with pytest.raises(DownloadError, match="has changed since it was recorded") as refused:
        fetch_model(SMALL, client=client)
    assert str(weights) in str(refused.value)
    assert "'osa download --refresh hf:acme/small' downloads it again" in str(refused.value)
    assert fetch_model(SMALL, refresh=True, client=client).path == model.path
    assert weights.read_bytes() == FOREIGN["model.safetensors"]
    assert not fetch_model(SMALL, client=client).fetched


@pytest.mark.parametrize("linked", [False, True])
def test_a_missing_file_comes_from_the_recorded_commit(
    hub: Hub, client: HubClient, linked: bool
) -> None:
    repository = hub.add("acme/small")
    first = repository.publish(FOREIGN)
    model = fetch_model(SMALL, client=client)
    repository.publish({**FOREIGN, "tokenizer.json": b'{"new": 1}'})
    (model.path / "tokenizer.json").resolve().unlink()
    if not linked:
        (model.path / "tokenizer.json").unlink()
    assert fetch_model(SMALL, client=client) == HubModel(model.path, first, True)
    assert (model.path / "tokenizer.json").read_bytes() == FOREIGN["tokenizer.json"]


def test_a_file_that_the_record_does_not_have_is_refused(hub: Hub, client: HubClient) -> None:
    hub.add("acme/small").publish(FOREIGN)
    model = fetch_model(SMALL, client=client)
    (model.path / "README.md").write_text("other tools bring this")
    (model.path / "pytorch_model.bin").write_bytes(b"and this")
    fetch_model(SMALL, client=client)
    (model.path / "modules.json").write_text("[]")
    with pytest.raises(DownloadError, match=r"modules\.json is not in the record .* remove the"):
        fetch_model(SMALL, client=client)


def test_what_the_hub_sends_must_have_the_digest_that_it_names(
    hub: Hub, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/small").publish(FOREIGN)
    store = Hub.stored
    monkeypatch.setattr(
        Hub, "stored", lambda self: {sha: data[::-1] for sha, data in store(self).items()}
    )
    with pytest.raises(DownloadError, match=r"model\.safetensors is not the file that http"):
        fetch_model(SMALL, client=client)
    assert not record_file(client.cache, SMALL).exists()
    monkeypatch.undo()
    with pytest.raises(DownloadError, match="osa download --refresh"):
        fetch_model(SMALL, client=client)
    assert fetch_model(SMALL, refresh=True, client=client).fetched


@pytest.mark.parametrize("damage", ["", "[]", '{"format": "osa-hub-record", "format_version": 9}'])
def test_a_damaged_record_is_told(hub: Hub, client: HubClient, damage: str) -> None:
    hub.add("acme/small").publish(FOREIGN)
    fetch_model(SMALL, client=client)
    record_file(client.cache, SMALL).write_text(damage)
    with pytest.raises(DownloadError, match=r"main\.json is not a record that this version reads"):
        fetch_model(SMALL, client=client)
    fetch_model(SMALL, refresh=True, client=client)
    assert not fetch_model(SMALL, client=client).fetched


def test_a_record_of_a_revision_with_slashes(hub: Hub, client: HubClient) -> None:
    commit = hub.add("acme/small").publish(FOREIGN, branch="refs/pr/1")
    reference = parse_reference("hf:acme/small@refs/pr/1")
    # the client sends the revision as one part of the path
    assert fetch_model(reference, client=client).commit == commit
    assert record_file(client.cache, reference).name == "refs%2Fpr%2F1.json"


def test_private_and_gated_models_need_the_token(hub: Hub, tmp_path: Path) -> None:
    for name, gated, told in (
        ("acme/private", False, "has no such model, or this token may not read it"),
        ("acme/gated", True, f"access is gated: accept the terms at {hub.url}/acme/gated"),
    ):
        hub.add(name, token="hf_right", gated=gated).publish(FOREIGN)
        reference = parse_reference(f"hf:{name}")
        for token in ("hf_wrong", None):
            stranger = HubClient(hub.url, tmp_path / "cache", token)
            with pytest.raises(DownloadError, match="HF_TOKEN") as refused:
                fetch_model(reference, client=stranger)
            assert told in str(refused.value)
        friend = HubClient(hub.url, tmp_path / "cache", "hf_right")
        assert files_of(fetch_model(reference, client=friend)) == TAKEN


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("hf:acme/none", "has no such model"),
        ("hf:acme/small@v9", "has no revision 'v9': name a branch, tag or commit"),
        ("hf:acme/pickle", "weights as pickle alone (pytorch_model.bin)"),
        ("hf:acme/onnx", "no weights in safetensors"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(
    hub: Hub, client: HubClient, reference: str, told: str
) -> None:
    hub.add("acme/small").publish(FOREIGN)
    hub.add("acme/pickle").publish({"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.add("acme/onnx").publish({"config.json": b"{}", "onnx/model.onnx": b"x"})
    with pytest.raises(DownloadError) as refused:
        fetch_model(parse_reference(reference), client=client)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path], "nothing is downloaded"


@pytest.mark.parametrize(("status", "told"), [(503, "answered 503: try again"), (403, "forbids")])
def test_a_hub_that_refuses_or_is_away_is_told(
    hub: Hub, client: HubClient, tmp_path: Path, status: int, told: str
) -> None:
    hub.status = status
    with pytest.raises(DownloadError, match=told):
        fetch_model(SMALL, client=client)
    away = HubClient("http://127.0.0.1:9", tmp_path / "cache")
    with pytest.raises(DownloadError, match=r"cannot reach http://127\.0\.0\.1:9 \(") as refused:
        fetch_model(SMALL, client=away)
    assert "\n" not in str(refused.value)


def test_a_cache_that_is_no_directory_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.add("acme/small").publish(FOREIGN)
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"\(Not a directory\): HF_HUB_CACHE names"):
        fetch_model(SMALL, client=HubClient(hub.url, tmp_path / "file"))


def test_paths_are_left_alone() -> None:
    assert local_path(None) is None
    assert local_path(Path("/models/a"), refresh=True) == Path("/models/a")
