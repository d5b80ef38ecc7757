"""Any provider that LiteLLM knows, with the costs of its price table.  Needs ``flashgraph[litellm]`` and asyncio."""

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
from flashgraph.llm.connections import LARGEST_BODY, broke_off
from flashgraph.llm.dialect import Dialect
from flashgraph.llm.faults import SAID, ServerErrors
from flashgraph.llm.limits import Limits
from flashgraph.llm.prices import UNKNOWN, Price, table_source
from flashgraph.llm.protocol import Message, Reply
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
"""How libraries say that there is no key, or no good one, before or after they ask: as errors of all kinds."""

ODD_REPLY = re.compile(
    r"invalid response|Expecting (value|property|',|':)|Unterminated string|Extra data|maximum recursion|"
    r"validation error",
    re.IGNORECASE,
)
"""How LiteLLM says that it cannot read a reply, also as errors of the server."""


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
    # It warns of odd values in replies with the values themselves, which are not to be printed.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
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

        Raises `DataError` if it is not installed, or on another event loop than asyncio's, and `KeyRefused` for a key
        that cannot be sent.
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
        spread(self.name, {**self.params, **params})  # for what it refuses: LiteLLM does the rest
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
            said = Completion.of(_plain(response))
            if len(said.written) > LARGEST_BODY:  # LiteLLM has no bound of its own
                raise Malformed(f"a reply of more than {LARGEST_BODY:,} characters")
        except Malformed as error:
            raise self._faults.malformed(str(error), request, "") from None
        return self._faults.reply(said, request, _headers(response), self.model, self.worst_cost)

    async def _sent(self, litellm: Any, request: Mapping[str, Any]) -> Any:
        """The response to ``request``, without what the provider refuses: it may have to say so first."""
        while True:
            sent = self._dialect.spoken(request)
            try:
                return await litellm.acompletion(**sent)
            # Its exceptions share no base of their own: they derive from those of the openai package.
            except Exception as error:
                refused = isinstance(error, litellm.BadRequestError | litellm.UnprocessableEntityError)
                if refused and self._dialect.learn(_said(error), sent):
                    continue
                # Not from it: an error of a library may quote a header, and the key with it.
                raise self._error(litellm, error) from None

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

    @property
    def _faults(self) -> ServerErrors:
        return ServerErrors(self.name, self.name, self.retry, self._redacted, self._key_refused)

    def _redacted(self, text: str) -> str:
        return redacted(text, [str(self.params.get("api_key") or ""), *environment_secrets()])

    def _key_refused(self, status: int, said: str) -> KeyRefused:
        refused = f"{self.name} refuses access ({status}): {said}; {self._which_key()}"
        return KeyRefused(refused, certain=status == 401)

    def _which_key(self) -> str:
        """How the key is set, by what LiteLLM misses in the environment."""
        try:
            missing = _litellm().validate_environment(self.model)["missing_keys"]
        # It knows some providers only, and may raise anything for others.
        except Exception:
            missing = []
        return f"set {' or '.join(map(str, missing)) or 'the provider key'} in the environment"

    def _own_key(self) -> dict[str, str]:
        """The provider's key as an option, where LiteLLM would send the blanks that stand around it in the environment.

        Raises `KeyRefused` for one that no header can carry.
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
        # It raises for a model that it does not know, which its own call will say better.
        except Exception:
            return ""

    def _error(self, litellm: Any, error: Exception) -> Exception:
        """``error`` in our terms: a `PassingFault`, a final error, or itself if it is a bug and no model fault."""
        said = f"{self.name}: {Complaint(0, '', self._redacted(_said(error))).cut(SAID)}"
        if isinstance(error, litellm.AuthenticationError | litellm.PermissionDeniedError) or NO_KEY.search(said):
            forbidden = isinstance(error, litellm.PermissionDeniedError)
            return KeyRefused(f"{said}; {self._which_key()}", certain=not forbidden)
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
        if ODD_REPLY.search(said):
            return self.retry.passing(MalformedReply(f"{said}; expected a chat completion"), cut_off=True, chance=True)
        passing = ("APIError", "APIConnectionError", "ServiceUnavailableError", "InternalServerError")
        if isinstance(error, tuple(getattr(litellm, each) for each in passing)):
            final = ModelUnavailable(f"{said}; wait, then run again")
            return self.retry.passing(final, pause=retry_after(headers), cut_off=broke_off(error))
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 400 <= status <= 599:
            return self._faults.of(Complaint(status, "", _said(error)), headers)
        return error


def _said(error: Exception) -> str:
    """What an exception says, without the traceback that LiteLLM puts into some."""
    said = str(getattr(error, "message", "") or error)[:LONGEST_SAID]
    return said.partition("Traceback (most recent call last)")[0]


def _plain(response: Any) -> Any:
    """A response as the JSON value that the provider has sent, as far as LiteLLM keeps it.

    It puts what it does not know itself aside: an error beside an answer, and a refusal.
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
    # Whatever its values are that it did not check.
    except Exception as error:
        raise Malformed(f"LiteLLM cannot read it: {type(error).__name__}") from None
    return data


def _headers(response: Any) -> Mapping[str, str]:
    """The provider's headers, which LiteLLM passes on with a prefix."""
    hidden = getattr(response, "_hidden_params", None) or {}
    return hidden.get("additional_headers") or {}
