"""Requests and answers of every server."""

from __future__ import annotations

import dataclasses

import orjson

from benchmarks.serving.peers import DEFAULT, PEERS


def test_every_server_reads_what_its_protocol_answers() -> None:
    vector = [0.5, -0.25]
    bodies: dict[str, object] = {
        "osa": [vector],
        "mosec": {"embedding": vector},
        "litserve": {"embedding": vector},
        "fastapi": {"embedding": vector},
        "triton": {"outputs": [{"name": "embedding", "data": vector}]},
        "infinity": {"data": [{"index": 0, "embedding": vector}]},
        "vllm": {"data": [{"index": 0, "embedding": vector}]},
    }
    for name in DEFAULT:
        body = bodies[name.partition("-")[0]]
        assert PEERS[name].read(orjson.dumps(body)).tolist() == vector
        sent = PEERS[name].request("some text")
        assert b"some text" in sent.body
        assert dataclasses.asdict(sent)["method"] == "POST"
