"""Any provider that LiteLLM knows, with the costs of its price table.  Needs ``flashgraph[litellm]`` and asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs

from flashgraph.errors import (
    ContentFiltered,
    ContextTooLong,
    DataError,
    KeyRefused,
    MalformedReply,
    ModelUnavailable,
    RequestFailed,
    TimedOut,
    UnknownModel,
)
from flashgraph.llm.connections import broke_off
from flashgraph.llm.prices import UNKNOWN, Price, table_source
from flashgraph.llm.protocol import Message, Reply, Usage, reply_limit
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry, retry_after
from flashgraph.policies.limits import Limits

__all__ = ["LiteLLMModel"]


def _litellm() -> Any:
    """The library, quiet and without its look-ups over the network.

    Raises `DataError` if it is not installed.
    """
    # Without this, importing the library downloads its price table.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError as error:
        raise DataError(
            f"litellm: models need the litellm package ({error}); run: pip install 'flashgraph[litellm]'"
        ) from None
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    return litellm


@attrs.define(eq=False)
class LiteLLMModel:
    """The model that LiteLLM calls ``model`` (``anthropic/claude-...``, ``gemini/...``).

    Keys come from the provider's own environment variable.  ``params`` are sent with each request unless the
    request says otherwise; LiteLLM's own options (``api_base`` ...) can be among them.  ``limits`` are limits that
    move, in the place of the fixed ``limit``.
    """

    model: str
    limit: int = attrs.field(default=32, kw_only=True, validator=attrs.validators.ge(1))
    limits: Limits | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=300.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, repr=False)
    retry: Retry = attrs.field(factory=Retry, kw_only=True)
    _pinned: Price | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.limits is not None:
            self.limit = self.limits.most

    @property
    def name(self) -> str:
        return self.model

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Load the library.

        Raises `DataError` if it is not installed, or on another event loop than asyncio's.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DataError(
                f"litellm:{self.model} works on asyncio only, found trio; run on asyncio, or use openai:URL#MODEL"
            ) from None
        _litellm()
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`.  LiteLLM itself retries nothing."""
        request = {
            "timeout": self.timeout,
            **self.params,
            **params,
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "num_retries": 0,
            "max_retries": 0,
            "stream": False,
        }
        litellm, text = _litellm(), ""
        try:
            response = await litellm.acompletion(**request)
        # Its exceptions share no base of their own: they derive from those of the openai package.
        except Exception as error:
            raise self._error(litellm, error) from error
        try:
            choice = response.choices[0]
            text = choice.message.content or ""
            counted = response.usage
            usage = Usage.counted(counted.prompt_tokens, counted.completion_tokens, request, text)
        except (AttributeError, IndexError) as error:
            usage = Usage.estimate(request["messages"], text, reply_limit(request))
            raise self.retry.passing(MalformedReply(f"{self.name}: malformed reply ({error!r})"), usage=usage) from None
        if choice.finish_reason == "content_filter":
            raise ContentFiltered(f"{self.name}: the reply was withheld by the provider's content filter", usage=usage)
        return Reply(
            text,
            usage,
            self.worst_cost(usage.prompt, usage.completion),
            choice.finish_reason or "stop",
            response.model or self.model,
            quotas(_headers(response)),
        )

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """By the price that a run has pinned, or else by LiteLLM's table; None for a model that is not in it."""
        return self._listed(prompt, completion) if self._pinned is None else self._pinned.of(prompt, completion)

    def pricing(self) -> Price:
        """What LiteLLM's table says of one token of each kind."""
        prompt, completion = self._listed(1, 0), self._listed(0, 1)
        return UNKNOWN if prompt is None or completion is None else Price(prompt, completion, table_source())

    def pin(self, price: Price) -> None:
        """Count by this price from now on; where the table still says the same, by the table with its steps for long
        prompts."""
        now = self.pricing()
        same = (now.prompt, now.completion) == (price.prompt, price.completion)
        self._pinned = None if same else price

    def _listed(self, prompt: int, completion: int) -> float | None:
        litellm = _litellm()
        try:
            prices = litellm.cost_per_token(model=self.model, prompt_tokens=prompt, completion_tokens=completion)
        # It raises a bare Exception for a model that it has no price of.
        except Exception:
            return None
        return float(sum(prices))

    def _error(self, litellm: Any, error: Exception) -> Exception:
        """``error`` in our terms: a `PassingFault`, a final error, or itself if it is a bug and no model fault."""
        said = f"{self.name}: {getattr(error, 'message', '') or error}"
        if isinstance(error, litellm.AuthenticationError | litellm.PermissionDeniedError):
            return KeyRefused(f"{said}; set the provider's key in the environment")
        if isinstance(error, litellm.NotFoundError):
            return UnknownModel(f"{said}; check the model's name in LiteLLM's list of models")
        if isinstance(error, litellm.Timeout):
            return self.retry.passing(TimedOut(f"{said}; raise it with `?timeout=SECONDS`"), cut_off=True)
        # Both are bad requests to LiteLLM too.
        if isinstance(error, litellm.ContextWindowExceededError):
            return ContextTooLong(f"{said}; the request does not fit into the model's context")
        if isinstance(error, litellm.ContentPolicyViolationError):
            return ContentFiltered(f"{said}; the provider's content filter refused the request")
        if isinstance(error, litellm.BadRequestError) and "LLM Provider NOT provided" in said:
            return UnknownModel(f"unknown model {self.model!r}: write litellm:PROVIDER/MODEL")
        if isinstance(error, litellm.BadRequestError | litellm.UnprocessableEntityError):
            return RequestFailed(said)
        # The response that its exceptions carry is made up, and has none of the provider's headers.
        headers = getattr(error, "litellm_response_headers", None) or {}
        if isinstance(error, litellm.RateLimitError):
            return self.retry.throttled(
                f"{said}; lower `?limit=` or `?rpm=`, or wait", retry_after(headers), quotas(headers)
            )
        passing = ("APIError", "APIConnectionError", "ServiceUnavailableError", "InternalServerError")
        if isinstance(error, tuple(getattr(litellm, each) for each in passing)):
            final = ModelUnavailable(f"{said}; wait, then run again")
            return self.retry.passing(final, pause=retry_after(headers), cut_off=broke_off(error))
        return error


def _headers(response: Any) -> Mapping[str, str]:
    """The provider's headers, which LiteLLM passes on with a prefix."""
    hidden = getattr(response, "_hidden_params", None) or {}
    return hidden.get("additional_headers") or {}
