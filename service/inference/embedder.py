"""The embedding use case: texts, ids or features in, vectors out. No HTTP.

``prepare`` and ``finish`` are synchronous, and run on worker threads where they are long;
``submit`` runs on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from osa.model.documents.chunk_ranges import Offsets
from osa.model.errors import InputError
from osa.model.text.results import as_list
from osa.model.text.slices import Check, go_on
from osa.model.tokenization import TextTokenizer, TokenizedText
from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.item import WorkItem
from osa.service.engines.base import EngineInfo, Spans
from osa.service.errors import ValidationError
from osa.service.inference.inflight import InFlightInputs, PendingRequest, digests_of, input_key
from osa.service.inference.limits import (
    check_count,
    check_dimensions,
    check_longest,
    find_prompt,
    no_text,
    too_many_tokens,
)
from osa.service.inference.pairs import count_characters, encode_texts
from osa.service.inference.prompts import Prompts
from osa.service.inference.request import (
    EmbedOptions,
    Inputs,
    Pair,
    PreparedRequest,
    Submission,
)
from osa.service.inference.sequences import IdRule, LengthRule, fit_features, fit_ids, in_order
from osa.service.inference.tasks import check_task
from osa.service.inference.vector_cache import VectorCache
from osa.service.observability import metrics
from osa.service.settings import Settings

Cut = Callable[[int, Offsets], Spans]
"""From a document's index and its tokens' characters to token ranges."""


class Embedder:
    """Validates, tokenises, queues and post-processes the inputs of one model."""

    def __init__(
        self,
        about: EngineInfo,
        tokenizer: TextTokenizer | None,
        queue: BatchQueue,
        model_metrics: metrics.Metrics,
        settings: Settings,
    ) -> None:
        """Bind the parts.

        Args:
            about: What the engine runs.
            tokenizer: The model's; None for models of ids alone, and of features.
            queue: Of the model.
            model_metrics: Of the model.
            settings: Limits and prompts; ``model`` is the model's own.

        Raises:
            ConfigError: No batch could hold the longest input, there is no default prompt of that
                name, or a prompt leaves no room for texts.
        """
        self.about, self.tokenizer = about, tokenizer
        self._queue, self.metrics, self._settings = queue, model_metrics, settings
        self.cache = VectorCache(settings.cache.max_bytes)
        self._inflight = InFlightInputs(self.cache.put)
        self.max_input_length = about.limit_input(settings.model.max_input_length)
        check_longest(about, self.max_input_length, settings.batching.max_batch_tokens)
        self.prompts = Prompts.of(about, settings.model)
        if tokenizer is not None:
            self.prompts.check_lengths(tokenizer, self.max_input_length)
        self.auto_truncate = settings.model.auto_truncate
        self.max_inputs = settings.batching.max_client_batch_size

    def prepare(
        self, inputs: Inputs, options: EmbedOptions, started: float, check: Check = go_on
    ) -> PreparedRequest:
        """Check and tokenise.

        Args:
            inputs: Texts, pairs of texts, ids or features.
            options: What was asked for.
            started: When reading began (monotonic clock) [s].
            check: Called between steps; raises where the result is not wanted any more.

        Raises:
            EmptyInputError: An input without a single token or row.
            ModelKindError: The model does something else, or does not take pairs.
            ValidationError: Too many inputs, another kind of input than the model takes, or a
                dimension, an id, a number or a length that is not allowed.
        """
        self._check_request(len(inputs), options)
        prompt = find_prompt(self.prompts, options.prompt_name) if options.prompted else ""
        texts = {at: item for at, item in enumerate(inputs) if isinstance(item, str | tuple)}
        tokenized = list(self._tokenize(texts, options, prompt, check=check)) if texts else []
        ids: list[Any] = [text.ids for text in tokenized]
        truncated = [text.truncated for text in tokenized]
        unknown = sum(text.unknown for text in tokenized)
        characters = count_characters(list(texts.values()))
        if prompt:
            characters += len(prompt) * sum(isinstance(item, str) for item in texts.values())
        if len(texts) < len(inputs):
            if options.prompt_name is not None and not texts:
                kind = "ids" if self.about.feature_size is None else "features"
                raise ValidationError(f"prompts go before texts, not {kind}", param="prompt_name")
            rest = {at: item for at, item in enumerate(inputs) if at not in texts}
            kept, cut = self._fit(rest, options)
            if self.tokenizer is not None:
                unknown += sum(map(self.tokenizer.count_unknown, kept))
            ids, truncated = in_order([*texts, *rest], ids + kept, truncated + cut)
        return PreparedRequest(
            ids, options, characters, truncated, started, time.monotonic() - started,
            unknown=unknown, digests=digests_of(ids, self._queue.is_document),
        )  # fmt: skip

    def prepare_spans(
        self,
        texts: Sequence[str],
        options: EmbedOptions,
        started: float,
        cut: Cut,
        check: Check = go_on,
    ) -> PreparedRequest:
        """Check and tokenise documents whose spans are embedded; each is tokenised once.

        Args:
            texts: The documents.
            options: What was asked for; no prompt is applied.
            started: When reading began (monotonic clock) [s].
            cut: Called with each document's index and the characters of the tokens that are kept,
                special tokens left out; returns its token ranges.
            check: As for ``prepare``.

        Raises:
            EmptyInputError: A document without a single token.
            ModelKindError: The model does something else.
            ValidationError: Too many documents, a dimension or a length that is not allowed.
        """
        self._check_request(len(texts), options)
        documents = self._tokenize(dict(enumerate(texts)), options, offsets=True, check=check)
        first = len(self.tokenizer.prefix) if self.tokenizer else 0
        rows, truncated, spans, unknown = [], [], [], 0
        for index, text in enumerate(documents):
            check()
            ranges = cut(index, text.offsets)
            spans.append(tuple((first + start, first + stop) for start, stop in ranges))
            rows.append(text.ids)
            truncated.append(text.truncated)
            unknown += text.unknown
        return PreparedRequest(
            rows,
            options,
            sum(map(len, texts)),
            truncated,
            started,
            time.monotonic() - started,
            spans,
            unknown,
            digests_of(rows, self._queue.is_document),
        )

    def _check_request(self, count: int, options: EmbedOptions) -> None:
        check_task(self.about, options.tasks)
        check_count(count - options.queries, self.max_inputs, "input")
        check_dimensions(self.about, options.dimensions)

    def _length_rule(self, options: EmbedOptions, unit: str = "tokens") -> LengthRule:
        truncate = self.auto_truncate if options.truncate is None else options.truncate
        return LengthRule(self._longest(options), truncate, options.direction, unit)

    def _longest(self, options: EmbedOptions) -> int:
        """Longest input; vectors of all tokens are those of inputs that fit a batch."""
        longest = self.max_input_length
        return min(longest, self._queue.longest) if options.token_vectors else longest

    def _tokenize(
        self,
        texts: Mapping[int, str | Pair],
        options: EmbedOptions,
        prompt: str = "",
        offsets: bool = False,
        check: Check = go_on,
    ) -> Iterator[TokenizedText]:
        """Ids of texts and pairs by their places in the request, one by one."""
        tokenizer = self.tokenizer
        if tokenizer is None:
            raise no_text(self.about)
        longest, most = self._longest(options), self._queue.max_tokens
        rule, total = self._length_rule(options), 0
        try:
            every = list(texts.values())
            encoded = encode_texts(
                tokenizer, self.about, every, longest, options, prompt, offsets, check
            )
            for index, text in zip(texts, encoded, strict=True):
                if text.truncated and not rule.truncate:
                    rule.check(index, len(text.ids) + text.truncated)
                if not len(text.ids):
                    rule.check(index, 0)
                if not self._queue.is_document(len(text.ids)):
                    total += len(text.ids)
                    text = text._replace(ids=as_list(text.ids))
                if total > most:
                    raise too_many_tokens(most)
                yield text
        except InputError as error:
            raise ValidationError(str(error), param="input") from error

    def _fit(
        self, sequences: Mapping[int, Any], options: EmbedOptions
    ) -> tuple[list[Any], list[int]]:
        """Ids or features, whichever the model takes: cut, and by how much."""
        width = self.about.feature_size
        if width is None:
            reserved = frozenset() if self.tokenizer is None else self.tokenizer.reserved_ids
            allowed = IdRule(self.about.vocab_size or 0, reserved)
            return fit_ids(sequences, allowed, self._length_rule(options))
        return fit_features(sequences, width, self._length_rule(options, "rows"))

    def submit(
        self,
        prepared: PreparedRequest,
        deadline: float = math.inf,
        trace_span: object = None,
        tenant: Tenant = EVERYBODY,
        places: Sequence[int] | None = None,
        onto: Submission | None = None,
    ) -> Submission:
        """Queue every input that is neither cached nor in flight. Event loop only.

        Args:
            prepared: What ``prepare`` returned.
            deadline: When the answer becomes useless (monotonic clock) [s].
            trace_span: Of the request, if requests are traced.
            tenant: Whose request it is; nothing is shared between tenants.
            places: Which inputs; None for all.
            onto: What was submitted of the request before, if anything.

        Raises:
            OverloadedError: The queue has no room.
            TooManyTokensError: The queue never has so much room.
            UnavailableError: The queue is closed.
        """
        loop = asyncio.get_running_loop()
        pending = PendingRequest(loop, len(prepared.ids)) if onto is None else onto.pending
        places = range(len(prepared.ids)) if places is None else places
        inputs, items, hits, shared = [], [], 0, 0
        token_vectors, digests = prepared.options.token_vectors, prepared.digests
        try:
            for index in places:
                ids = prepared.ids[index]
                spans = None if prepared.spans is None else prepared.spans[index]
                key = input_key(ids, token_vectors, spans, tenant.identity, digests.get(index))
                if (held := self.cache.get(key)) is not None:
                    hits += 1
                    pending.settle(index, held)
                    continue
                if (joined := self._inflight.join(key, deadline, pending, index)) is not None:
                    shared += 1
                    inputs.append(joined)
                    continue
                item = WorkItem(
                    ids, deadline=deadline, token_vectors=token_vectors, spans=spans,
                    trace_span=trace_span,
                )  # fmt: skip
                items.append(item)
                inputs.append(self._inflight.begin(key, item, pending, index, loop))
            if items:
                self._queue.put(items, tenant)
        except BaseException:  # whatever it is: what is in flight and not queued never ends
            self._inflight.leave(inputs, pending, frozenset(places))
            raise
        submission = Submission(pending, []) if onto is None else onto
        submission.inputs.extend(inputs)
        if self.cache.max_bytes:
            self.metrics.add(metrics.CACHE_HITS, hits)
            self.metrics.add(metrics.CACHE_MISSES, len(places) - hits)
        if shared:
            self.metrics.add(metrics.SHARED_INPUTS, shared)
        return submission

    def withdraw(self, submission: Submission) -> None:
        """Cancel the inputs that no other request waits for."""
        orphans = self._inflight.leave(submission.inputs, submission.pending)
        if orphans:
            self.metrics.add(metrics.CANCELLED_TOKENS, self._queue.cancel(orphans))
