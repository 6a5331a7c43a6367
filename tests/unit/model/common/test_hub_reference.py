"""References to models of the hub: what is one, and what is malformed."""

from __future__ import annotations

from pathlib import Path

import pytest

from osa.model.common.hub_reference import HubReference, is_reference, parse_reference
from osa.model.errors import ConfigError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "repository", "revision", "fixed"),
    [
        ("hf:BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", "main", False),
        ("hf:acme/small@v1.0", "acme/small", "v1.0", False),
        ("hf:acme/small@refs/pr/3", "acme/small", "refs/pr/3", False),
        (f"hf:acme/_small.2@{COMMIT}", "acme/_small.2", COMMIT, True),
    ],
)
def test_a_reference_is_read_and_written(
    text: str, repository: str, revision: str, fixed: bool
) -> None:
    for given in (text, Path(text)):  # settings and arguments hold it as a path
        found = parse_reference(given)
        assert found == HubReference(repository, revision)
        assert found.is_commit is fixed
        assert str(found) == text
    assert str(parse_reference(f"hf:{repository}@main")) == f"hf:{repository}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hf:",
            "hf:small",
            "hf:acme/",
            "hf:/small",
            "hf:a/b/c",
            "hf:acme/small@",
            "hf:acme/sm all",
        ),
        *("hf://acme/small", "hf:../small", "hf:acme/..", "hf:acme/a--b", "hf:acme/small@a/../b"),
        *("hf:acme/small@-x", "hf:acme/small@v1@v2", "hf:acme/" + "n" * 96, "hf:acme/small\n"),
        *("hf:acme/small@a//b", "hf:acme/smäll", "hf:acme/small.", "hf:.acme/small"),
    ],
)
def test_a_malformed_reference_is_refused_with_the_form(text: str) -> None:
    assert is_reference(text)
    with pytest.raises(ConfigError, match="is written hf:ORG/NAME or hf:ORG/NAME@REVISION") as told:
        parse_reference(text)
    assert repr(text) in str(told.value)


def test_paths_are_no_references() -> None:
    assert not any(map(is_reference, (None, "", Path("/models/a"), "acme/small", "HF/small")))
