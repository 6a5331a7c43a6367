"""Documents as clients send them, to what is ranked and what is returned."""

from __future__ import annotations

import pytest

from osa.service.api.cohere.routes import texts_of, whole_documents
from osa.service.errors import ValidationError


def test_objects_are_ranked_by_their_fields_and_returned_whole() -> None:
    documents = ["a", {"text": "b", "id": 1}, {"text": "c", "title": "t"}]
    assert texts_of(documents, ["text"]) == ["a", "b", "c"]
    assert texts_of(documents[2:], ["title", "text", "year"]) == ["t\nc"]
    assert whole_documents(documents, ["a", "b", "c"]) == [
        {"text": "a"}, {"text": "b", "id": 1}, {"text": "c", "title": "t"}
    ]  # fmt: skip
    assert whole_documents([{"title": "t"}], ["t"]) == [{"text": "t", "title": "t"}]
    assert whole_documents([{"text": None, "title": "t"}], ["t"]) == [{"text": "t", "title": "t"}]


@pytest.mark.parametrize("document", [3, None, ["a"], {}, {"text": 3}, {"image": "x"}])
def test_what_has_no_text_is_refused_by_its_place(document: object) -> None:
    with pytest.raises(ValidationError, match=r"documents\[1\] must"):
        texts_of(["a", document], ["text"])
