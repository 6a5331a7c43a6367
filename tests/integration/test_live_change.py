"""Models are replaced, added and removed while requests run; several share one device."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.model.calibration import Calibration
from osa.model.checkpoint import write_manifest
from osa.service.auth.api_keys import make_key
from osa.service.engines.eager import EagerEngine
from tests.conftest import make_tiny_model, wait_until

Serve = Callable[..., httpx.Client]
TEXT = {"inputs": "the cat sat on a mat"}


@pytest.fixture
def other_checkpoint(tmp_path: Path) -> Path:
    make_tiny_model(hidden_size=32, matryoshka_dims=(32,)).save_pretrained(tmp_path / "other")
    return tmp_path / "other"


@pytest.fixture
def admin(serve: Serve, tiny_checkpoint: Path, tmp_path: Path) -> httpx.Client:
    """A client with an admin key, of a server with the tiny model."""
    secret, entry = make_key("operator", None, admin=True)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(
        model__path=tiny_checkpoint, model__name="tiny", auth__keys_file=tmp_path / "keys.toml"
    )
    client.headers["authorization"] = f"Bearer {secret}"
    return client


def test_a_model_is_exchanged_under_load_and_nothing_is_lost(
    admin: httpx.Client, other_checkpoint: Path
) -> None:
    before = admin.post("/embed", json=TEXT).json()
    stop, failures, widths = threading.Event(), [], set()

    def load() -> None:
        with httpx.Client(base_url=admin.base_url, headers=admin.headers, timeout=60) as own:
            while not stop.is_set():
                response = own.post("/embed", json=TEXT)
                if response.status_code != 200:
                    failures.append(response.text)
                else:
                    widths.add(len(response.json()[0]))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(widths))
    changed = admin.post("/admin/models/tiny", json={"path": str(other_checkpoint)})
    assert changed.status_code == 200
    assert changed.json()["model_id"] == "tiny"
    wait_until(lambda: widths == {16, 32})
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    after = admin.post("/embed", json=TEXT).json()
    assert len(before[0]) == 16
    assert len(after[0]) == 32
    assert admin.get("/info").json()["model_sha"] == changed.json()["model_sha"]
    assert 'osa_engine_up{model="tiny"} 1.0' in admin.get("/metrics").text


def test_what_cannot_be_loaded_changes_nothing(admin: httpx.Client, tmp_path: Path) -> None:
    before = admin.post("/embed", json=TEXT).content
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        refused = admin.post("/admin/models/tiny", json={"path": str(path)})
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("nothing has changed: ")
    assert admin.post("/embed", json=TEXT).content == before


def test_several_models_answer_by_name(admin: httpx.Client, other_checkpoint: Path) -> None:
    assert admin.post("/v1/embeddings", json={"model": "any", "input": "a"}).status_code == 200
    added = admin.post("/admin/models/wide", json={"path": str(other_checkpoint)})
    assert added.status_code == 200
    assert [model["id"] for model in admin.get("/v1/models").json()["data"]] == ["tiny", "wide"]
    assert [model["model_id"] for model in admin.get("/admin/models").json()] == ["tiny", "wide"]
    for name, width in (("tiny", 16), ("wide", 32)):
        native = admin.post("/embed", json={**TEXT, "model": name})
        openai = admin.post("/v1/embeddings", json={"model": name, "input": "the cat"})
        assert len(native.json()[0]) == width
        assert openai.json()["model"] == name
        assert len(openai.json()["data"][0]["embedding"]) == width
        assert admin.get(f"/v2/models/{name}/ready").status_code == 200
    instances = [{**TEXT, "model": "wide"}, {**TEXT, "model": "wide"}]
    vertex = admin.post("/vertex", json={"instances": instances})
    assert [len(part[0]) for part in vertex.json()["predictions"]] == [32, 32]
    mixed = admin.post("/vertex", json={"instances": [instances[0], {**TEXT, "model": "tiny"}]})
    assert mixed.status_code == 422
    unknown = admin.post("/v1/embeddings", json={"model": "any", "input": "a"})
    assert unknown.status_code == 404
    assert unknown.json()["error"] == {
        "message": "no such model; served: tiny, wide",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert len(admin.post("/embed", json={**TEXT, "model": "any"}).json()[0]) == 16
    wrong = {**TEXT, "model": "wide", "dimensions": 31}
    assert admin.post("/embed", json=wrong).status_code == 422
    failed = 'te_request_failure{{err="validation",model="{}"}} {}'.format
    found = admin.get("/metrics").text
    assert failed("wide", "2.0") in found, "under the chosen model; of instances, the first one's"
    assert failed("tiny", "1.0") not in found
    assert admin.delete("/admin/models/wide").status_code == 204
    assert admin.delete("/admin/models/wide").status_code == 404
    assert admin.delete("/admin/models/tiny").status_code == 422
    assert admin.get("/v2/models/wide").status_code == 404


def test_a_model_that_is_served_no_longer_leaves_memory_and_metrics(
    admin: httpx.Client, other_checkpoint: Path
) -> None:
    def engines(width: int) -> int:
        gc.collect()
        found = [each for each in gc.get_objects() if type(each) is EagerEngine]
        return sum(engine.info.dimensions[0] == width for engine in found)

    body = {"path": str(other_checkpoint)}
    others, before = engines(32), engines(16)  # of other tests, and the one that is served
    assert admin.post("/admin/models/wide", json=body).status_code == 200
    assert admin.post("/embed", json={**TEXT, "model": "wide"}).status_code == 200
    assert engines(32) == others + 1
    assert admin.delete("/admin/models/wide").status_code == 204
    wait_until(lambda: engines(32) == others)
    lines = [line for line in admin.get("/metrics").text.splitlines() if 'model="wide"' in line]
    assert not [
        line for line in lines if line.startswith(("osa_engine_up", "te_queue", "osa_build"))
    ]
    assert any(line.startswith("te_embed_success") for line in lines), "counts stay"
    assert admin.post("/admin/models/tiny", json=body).status_code == 200
    wait_until(lambda: engines(16) < before)
    assert 'osa_engine_up{model="tiny"} 1.0' in admin.get("/metrics").text


def test_models_of_the_settings_are_served_from_the_start(
    serve: Serve, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = serve(
        model__path=tiny_checkpoint, model__name="a/b", model__others=f"wide={other_checkpoint}"
    )
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["a/b", "wide"]
    metrics = client.get("/metrics").text
    for name in ("a/b", "wide"):
        assert f'te_queue_size{{model="{name}"}} 0.0' in metrics


def test_without_an_admin_key_nothing_is_exchanged(client: httpx.Client) -> None:
    refused = client.post("/admin/models/osa-default", json={"path": None})
    assert refused.status_code == 403
    assert "admin = true" in refused.json()["error"]


def test_names_with_slashes_are_exchanged_and_empty_ones_refused(
    admin: httpx.Client, tiny_checkpoint: Path
) -> None:
    body = {"path": str(tiny_checkpoint)}
    assert admin.post("/admin/models/team/law", json=body).status_code == 200
    assert admin.get("/v2/models/team/law/ready").status_code == 200
    assert admin.delete("/admin/models/team/law").status_code == 204
    assert admin.post("/admin/models/", json=body).status_code == 422
    assert admin.delete("/admin/models/").status_code == 404


@pytest.mark.parametrize(
    "name",
    ["x" * 129, "a b", "a%25b", "%2e%2e", "a/%2e%2e/b", "a%2F%2Fb", "é", "a/ready"],
)
def test_names_are_held_to_what_urls_and_terminals_can_show(
    admin: httpx.Client, tiny_checkpoint: Path, name: str
) -> None:
    refused = admin.post(f"/admin/models/{name}", json={"path": str(tiny_checkpoint)})
    assert refused.status_code == 422
    assert "at most 128 characters" in refused.json()["error"]
    assert admin.delete(f"/admin/models/{name}").status_code == 404


@pytest.mark.parametrize("end", ["%0a", "%0d", "%00", "%1b[31m", "%c2%85", "%e2%80%ae"])
def test_a_path_with_a_control_character_addresses_nothing(
    admin: httpx.Client, tiny_checkpoint: Path, end: str
) -> None:
    """Also where a pattern would take what comes before it."""
    body = {"path": str(tiny_checkpoint)}
    assert admin.post("/admin/models/wide", json=body).status_code == 200
    requests = [
        ("POST", "/admin/models/wide", body), ("DELETE", "/admin/models/wide", None),
        ("GET", "/v2/models/wide", None), ("GET", "/v2/models/wide/ready", None),
        ("POST", "/embed", TEXT), ("POST", "/v1/embeddings", {"input": "a"}),
    ]  # fmt: skip
    for method, path, sent in requests:
        answer = admin.request(method, path + end, json=sent)
        assert (answer.status_code, "Not Found" in answer.text) == (404, True), path
    assert admin.get("/v2/models/wide/ready").status_code == 200


@pytest.mark.parametrize("path", ["/" + "x" * 4999, "/models/\0", "/" + "x" * 300])
def test_a_path_that_nothing_can_have_is_refused(admin: httpx.Client, path: str) -> None:
    refused = admin.post("/admin/models/tiny", json={"path": path})
    assert refused.status_code == 422
    assert len(refused.text) < 300


def test_one_byte_vectors_of_a_width_that_was_not_measured_are_refused(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    calibration = Calibration({16: 0.5}, 100)
    (tiny_checkpoint / "calibration.json").write_text(calibration.to_json())
    write_manifest(tiny_checkpoint)
    client = serve(model__path=tiny_checkpoint)
    body = {**TEXT, "embedding_type": "int8"}
    assert client.post("/embed", json=body).status_code == 200
    refused = client.post("/embed", json={**body, "dimensions": 8})
    assert refused.status_code == 422
    assert "16" in refused.json()["error"]
