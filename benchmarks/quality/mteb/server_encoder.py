"""A running server as a model of ``mteb``: texts go to its HTTP routes, vectors come back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import httpx
import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, EncodeKwargs, PromptType
    from torch.utils.data import DataLoader
    from typing_extensions import Unpack

Route = Literal["native", "openai"]
PATHS: dict[Route, str] = {"native": "/embed", "openai": "/v1/embeddings"}
BATCH = 256
"""Texts in one request."""
TRIES = 20
"""Requests before an overloaded server is given up."""
TIMEOUT_S = 600.0


class ServerEncoder(AbsEncoder):
    """Vectors of a server, by its native route (text-embeddings-inference's too) or OpenAI's.

    Attributes:
        mteb_model_meta: The server's name, for ``mteb``.
        info: What the server tells about its model; empty where it has no ``/info``.
        texts: Number of texts that were sent.
        blank: Number of them that were empty, and sent as one space: servers refuse empty texts.
    """

    mteb_model_meta: ModelMeta

    def __init__(
        self,
        name: str,
        url: str,
        route: Route = "native",
        prefixes: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        """Connect to a server.

        Args:
            name: Of the model, for tables.
            url: Of the server, without a path.
            route: Which of its routes to use.
            prefixes: Texts to put before ``query`` and ``document`` inputs of retrieval tasks.
            api_key: Sent as a bearer token.

        Raises:
            httpx.TransportError: No server answers there.
        """
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        self._route: Route = route
        self._prefixes = dict(prefixes or {})
        self.texts = self.blank = 0
        answer = self._client.get("/info")
        self.info: dict[str, Any] = answer.json() if answer.is_success else {}
        self._model = str(self.info.get("model_id", name))
        revision = str(self.info.get("model_sha") or "unknown")
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": f"served/{name}", "revision": revision, "loader": None}
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Unpack[EncodeKwargs],
    ) -> np.ndarray:
        """Vectors [n, E] of all texts of a loader, normalised by the server.

        Args:
            inputs: Batches with a list ``text``.
            task_metadata: Not used: the server knows nothing of tasks.
            hf_split: Not used.
            hf_subset: Not used.
            prompt_type: Query or document, in retrieval tasks.
            kwargs: Not used.

        Raises:
            httpx.HTTPStatusError: The server refused a request.
        """
        prefix = self._prefixes.get("" if prompt_type is None else str(prompt_type.value), "")
        texts = [prefix + text for batch in inputs for text in batch["text"]]
        self.texts += len(texts)
        self.blank += sum(not text for text in texts)
        texts = [text or " " for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows: list[np.ndarray] = [np.empty(0)] * len(texts)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            for place, vector in zip(places, self._post([texts[p] for p in places]), strict=True):
                rows[place] = vector
        return np.stack(rows)

    def _post(self, texts: list[str]) -> list[np.ndarray]:
        """Vectors of one request; of two smaller ones where the body is too large."""
        body: dict[str, Any] = {"inputs": texts, "truncate": True}
        if self._route == "openai":
            body = {"input": texts, "model": self._model}
        answer = self._client.post(PATHS[self._route], json=body)
        for _ in range(TRIES):
            if answer.status_code not in (429, 503):
                break
            time.sleep(float(answer.headers.get("retry-after", 1)))
            answer = self._client.post(PATHS[self._route], json=body)
        if answer.status_code == 413 and len(texts) > 1:
            middle = len(texts) // 2
            return [*self._post(texts[:middle]), *self._post(texts[middle:])]
        if answer.is_error:  # with the server's own words
            raise httpx.HTTPStatusError(
                f"{answer.status_code}: {answer.text[:200]}",
                request=answer.request,
                response=answer,
            )
        found = answer.json()
        if self._route == "openai":
            ordered = sorted(found["data"], key=lambda entry: entry["index"])
            found = [entry["embedding"] for entry in ordered]
        return [np.asarray(vector, dtype=np.float32) for vector in found]
