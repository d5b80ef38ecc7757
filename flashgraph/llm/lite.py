"""Any provider that LiteLLM supports, with the prices of its table.  Needs ``flashgraph[litellm]`` and asyncio."""

from __future__ import annotations

import asyncio
import os
import re
import warnings
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
from flashgraph.llm.complaints import LONGEST_SAID, Complaint
from flashgraph.llm.completions import Completion, Malformed, spread
from flashgraph.llm.connections import LARGEST_BODY, connection_lost
from flashgraph.llm.dialect import Dialect
from flashgraph.llm.faults import SAID, ServerErrors
from flashgraph.llm.limits import Limits
from flashgraph.llm.prices import UNKNOWN, Price, table_source
from flashgraph.llm.protocol import Message, Reply, choices_wanted
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry, retry_after
from flashgraph.llm.secrets import Key, environment_secrets, redacted

__all__ = ["LiteLLMModel"]

NO_KEY = re.compile(
    r"missing credentials|missing .{0,40}(api|secret).?key|credentials were not found|unable to locate credentials|"
    r"api_?key.{0,20} (not set|missing|required|must be set)|no api.?key|cannot configure default credentials|"
    r"(incorrect|invalid) api.?key|api key not valid",
    re.IGNORECASE,
)
"""Texts of libraries for a missing or invalid key, in errors of all kinds, before or after the request."""

ODD_REPLY = re.compile(
    r"invalid response|Expecting (value|property|',|':)|Unterminated string|Extra data|maximum recursion|"
    r"validation error",
    re.IGNORECASE,
)
"""Texts of LiteLLM for a reply that it cannot parse, some of them in errors of the server."""


def _litellm() -> Any:
    """Return the library, with logging and network look-ups off.

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
    # Its warnings about odd values in replies contain the values, which must not be printed.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    return litellm


@attrs.define(eq=False)
class LiteLLMModel:
    """The model that LiteLLM calls ``model`` (``anthropic/claude-...``, ``gemini/...``).

    Keys come from the provider's own environment variable.  ``params`` are sent with each request that does not
    override them; they may include LiteLLM's own options (``api_base`` ...).  ``limits`` are moving limits in place of
    the fixed ``limit``.
    """

    model: str
    limit: int = attrs.field(default=32, kw_only=True, validator=attrs.validators.ge(1))
    limits: Limits | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=300.0, kw_only=True, validator=attrs.validators.gt(0))
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, repr=False)
    retry: Retry = attrs.field(factory=Retry, kw_only=True)
    _pinned: Price | None = attrs.field(default=None, init=False, repr=False)
    _dialect: Dialect = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._dialect = Dialect(self.model)
        if self.limits is not None:
            self.limit = self.limits.most

    @property
    def name(self) -> str:
        return self.model

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Load the library.

        Raises `DataError` if it is not installed, and on event loops other than asyncio's; `KeyRefused` for a key that
        cannot be sent.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DataError(
                f"litellm:{self.model} works on asyncio only, found trio; run on asyncio, or use openai:URL#MODEL"
            ) from None
        self._own_key()
        yield

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; see `flashgraph.llm.protocol.Model.complete`.  LiteLLM itself retries nothing."""
        spread(self.name, {**self.params, **params})  # only to raise its errors; LiteLLM merges extra_body itself
        request = {
            "timeout": self.timeout,
            **self.params,
            **self._own_key(),
            **params,
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "num_retries": 0,
            "max_retries": 0,
            "stream": False,
        }
        response = await self._sent(_litellm(), request)
        try:
            said = Completion.of(_plain(response), choices_wanted(request))
            if len(said.written) > LARGEST_BODY:  # LiteLLM has no bound of its own
                raise Malformed(f"a reply of more than {LARGEST_BODY:,} characters")
        except Malformed as error:
            raise self._faults.malformed(str(error), request, "") from None
        return self._faults.reply(said, request, _headers(response), self.model, self.worst_cost)

    async def _sent(self, litellm: Any, request: Mapping[str, Any]) -> Any:
        """Return the response to ``request``; if the provider refuses parameters, send it again without them."""
        while True:
            sent = self._dialect.adapted(request)
            try:
                return await litellm.acompletion(**sent)
            # Its exceptions have no common base class: they derive from those of the openai package.
            except Exception as error:
                refused = isinstance(error, litellm.BadRequestError | litellm.UnprocessableEntityError)
                if refused and self._dialect.learn(_said(error), sent):
                    continue
                # Without the cause: an error of a library may quote a header, and thereby the key.
                raise self._error(litellm, error) from None

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return the cost by the price that a run has pinned, or else by LiteLLM's table; None if it has none."""
        return self._listed(prompt, completion) if self._pinned is None else self._pinned.of(prompt, completion)

    def pricing(self) -> Price:
        """Return the price of one token of each kind in LiteLLM's table."""
        prompt, completion = self._listed(1, 0), self._listed(0, 1)
        return UNKNOWN if prompt is None or completion is None else Price(prompt, completion, table_source())

    def pin(self, price: Price) -> None:
        """Use this price from now on.

        If the table still has the same price, the table is used, because it has steps for long prompts.
        """
        now = self.pricing()
        same = (now.prompt, now.completion) == (price.prompt, price.completion)
        self._pinned = None if same else price

    def _listed(self, prompt: int, completion: int) -> float | None:
        litellm = _litellm()
        try:
            prices = litellm.cost_per_token(model=self.model, prompt_tokens=prompt, completion_tokens=completion)
        # It raises a bare Exception for a model without a price.
        except Exception:
            return None
        return float(sum(prices))

    @property
    def _faults(self) -> ServerErrors:
        return ServerErrors(self.name, self.name, self.retry, self._redacted, self._key_refused)

    def _redacted(self, text: str) -> str:
        return redacted(text, [str(self.params.get("api_key") or ""), *environment_secrets()])

    def _key_refused(self, status: int, said: str) -> KeyRefused:
        refused = f"{self.name} refuses access ({status}): {said}; {self._which_key()}"
        return KeyRefused(refused, certain=status == 401)

    def _which_key(self) -> str:
        """Return how to set the key: the variables that LiteLLM misses in the environment."""
        try:
            missing = _litellm().validate_environment(self.model)["missing_keys"]
        # It supports some providers only, and may raise anything for others.
        except Exception:
            missing = []
        return f"set {' or '.join(map(str, missing)) or 'the provider key'} in the environment"

    def _own_key(self) -> dict[str, str]:
        """Return the provider's key as an option, if the environment's value has blanks around it, which LiteLLM keeps.

        Raises `KeyRefused` for a key that no header can contain.
        """
        if self.params.get("api_key"):
            return {"api_key": Key(str(self.params["api_key"]), "`api_key`").usable()}
        variable = f"{self._provider().upper()}_API_KEY"
        found = os.environ.get(variable, "")
        key = Key(found, variable).usable()
        return {"api_key": key} if key and key != found else {}

    def _provider(self) -> str:
        try:
            return str(_litellm().get_llm_provider(self.model)[1])
        # It raises for an unknown model; the call itself will report that better.
        except Exception:
            return ""

    def _error(self, litellm: Any, error: Exception) -> Exception:
        """Return ``error`` in our terms: a `PassingFault`, a final error, or itself if it is a bug."""
        said = f"{self.name}: {Complaint(0, '', self._redacted(_said(error))).cut(SAID)}"
        if isinstance(error, litellm.AuthenticationError | litellm.PermissionDeniedError) or NO_KEY.search(said):
            forbidden = isinstance(error, litellm.PermissionDeniedError)
            return KeyRefused(f"{said}; {self._which_key()}", certain=not forbidden)
        if isinstance(error, litellm.NotFoundError):
            return UnknownModel(f"{said}; check the model's name in LiteLLM's list of models")
        if isinstance(error, litellm.Timeout):
            return self.retry.passing(TimedOut(f"{said}; raise it with `?timeout=SECONDS`"), cut_off=True)
        # LiteLLM makes both subclasses of its bad-request error.
        if isinstance(error, litellm.ContextWindowExceededError):
            return ContextTooLong(f"{said}; the request does not fit into the model's context")
        if isinstance(error, litellm.ContentPolicyViolationError):
            return ContentFiltered(f"{said}; the provider's content filter refused the request")
        if isinstance(error, litellm.BadRequestError) and "LLM Provider NOT provided" in said:
            return UnknownModel(f"unknown model {self.model!r}: write litellm:PROVIDER/MODEL")
        if isinstance(error, litellm.BadRequestError | litellm.UnprocessableEntityError):
            return RequestFailed(said)
        # The response in its exceptions is made up, without the provider's headers.
        headers = getattr(error, "litellm_response_headers", None) or {}
        if isinstance(error, litellm.RateLimitError):
            return self.retry.throttled(
                f"{said}; lower `?limit=` or `?rpm=`, or wait", retry_after(headers), quotas(headers)
            )
        if ODD_REPLY.search(said):
            return self.retry.passing(MalformedReply(f"{said}; expected a chat completion"), cut_off=True, chance=True)
        passing = ("APIError", "APIConnectionError", "ServiceUnavailableError", "InternalServerError")
        if isinstance(error, tuple(getattr(litellm, each) for each in passing)):
            final = ModelUnavailable(f"{said}; wait, then run again")
            return self.retry.passing(final, pause=retry_after(headers), cut_off=connection_lost(error))
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 400 <= status <= 599:
            return self._faults.of(Complaint(status, "", _said(error)), headers)
        return error


def _said(error: Exception) -> str:
    """Return an exception's text, without the traceback that LiteLLM adds to some."""
    said = str(getattr(error, "message", "") or error)[:LONGEST_SAID]
    return said.partition("Traceback (most recent call last)")[0]


def _plain(response: Any) -> Any:
    """Return a response as the JSON value that the provider sent, as far as LiteLLM keeps it.

    LiteLLM moves fields that it does not know elsewhere: an error beside an answer, and a refusal.
    """
    dump = getattr(response, "model_dump", None)
    try:
        data = dump(warnings=False) if dump is not None else None
        for choice in (data or {}).get("choices", ()):
            aside = choice.get("provider_specific_fields") or {}
            if aside.get("error") or aside.get("native_finish_reason") == "error":
                choice |= {"error": aside.get("error"), "finish_reason": "error"}
            message = choice.get("message") or {}
            message.setdefault("refusal", (message.get("provider_specific_fields") or {}).get("refusal"))
    # LiteLLM does not validate the values, so they may cause any error.
    except Exception as error:
        raise Malformed(f"LiteLLM cannot read it: {type(error).__name__}") from None
    return data


def _headers(response: Any) -> Mapping[str, str]:
    """Return the provider's headers, which LiteLLM passes on with a prefix."""
    hidden = getattr(response, "_hidden_params", None) or {}
    return hidden.get("additional_headers") or {}
