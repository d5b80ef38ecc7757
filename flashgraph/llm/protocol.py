"""The interface of a model: messages in, a reply with its usage and cost out.

The protocol is small on purpose, so that a user's own object can be a model.  The scheduler queues requests: a model
only says how many it takes at once (`Model.limit`), and never waits for a slot itself.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from flashgraph.errors import DataError
from flashgraph.text.replies import parted, usable

__all__ = [
    "MOST_TOKENS", "REPLY_LIMITS", "Load", "Message", "Model", "Quota", "Reply", "TokenLogprob", "ToolCall", "Usage",
    "bounds_cost", "choices_wanted", "is_count", "reply_limit", "text_in", "whole_text",
]  # fmt: skip

Message = Mapping[str, Any]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": text}``.

The content may also be a list of parts as in OpenAI's API: ``[{"type": "text", "text": text}, {"type": "image_url",
...}, ...]``.
"""


def text_in(message: Message) -> str:
    """Return the text of a message.  If the content is a list of parts, join its text parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join([p["text"] for p in content if p["type"] == "text"])


def _finite(*, above: float | None = None) -> Callable[[Any, attrs.Attribute[Any], float], None]:
    def check(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
        if not math.isfinite(value) or (value < 0 if above is None else value <= above):
            expected = "0 or more" if above is None else f"above {above:g}"
            raise ValueError(f"quota: found {attribute.name}={value!r}, expected a number that is {expected}")

    return check


CHARACTERS_PER_TOKEN = 4

MOST_TOKENS = 100_000_000
"""More tokens than any model reads or writes in one request, so that a larger count is a mistake."""


REPLY_LIMITS = ("max_tokens", "max_completion_tokens")
"""Parameters that bound a reply."""

HIDDEN_PROMPT = 20_000
"""Tokens of a prompt that its request may not show: of a chat template, tools, or the server's own system prompt."""


MOST_CHOICES = 128
"""The most answers to one request, as in OpenAI's API."""


def is_count(value: object) -> bool:
    """Return whether ``value`` is a number of tokens: an int from 0 to `MOST_TOKENS`, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def whole_text(text: str) -> str:
    """Return ``text`` with U+FFFD in place of each lone surrogate.

    JSON's escapes can encode a lone surrogate, and a reply that was truncated within a character has one.  Files,
    databases and terminals do not accept it.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _tokens(value: Any) -> int:
    if type(value) is int and 0 <= value <= MOST_TOKENS:
        return value
    try:
        whole = operator.index(value)
    except TypeError:
        whole = -1
    if isinstance(value, bool) or not is_count(whole):
        raise DataError(f"the usage is {value!r:.80} tokens; expected a whole number from 0 to {MOST_TOKENS:,}")
    return whole


def _whole(value: Any) -> str:
    return whole_text(value) if isinstance(value, str) else value


def _is_text(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str):
        raise DataError(f"the reply's {attribute.name} is {value!r:.80} ({type(value).__name__}); expected a text")


def _tool_calls(value: Any) -> tuple[ToolCall, ...]:
    calls = tuple(value)
    if not all(isinstance(call, ToolCall) for call in calls):
        raise DataError(f"the reply's tool_calls are {value!r:.80}; expected ToolCall(id, name, arguments) values")
    return calls


def _cost(value: Any) -> float | None:
    if value is None:
        return None
    try:
        cost = float(value)
    except (TypeError, ValueError, OverflowError):
        cost = math.nan
    if isinstance(value, bool | str) or not 0 <= cost < math.inf:
        raise DataError(f"the reply's cost is {value!r:.80}; expected USD of at least 0, or None if no price is known")
    return cost


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens that parameters allow a reply; None if unbounded, as with llama.cpp's -1.

    Raises `DataError` for a bound that is not a whole number.
    """
    given = {name: params[name] for name in REPLY_LIMITS if params.get(name) is not None}
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value != int(value):
            raise DataError(f"{name}={value!r:.80}; expected a whole number of tokens.\nFix: {name}=1000.")
    return max(map(int, given.values())) if given and min(given.values()) >= 1 else None


def choices_wanted(params: Mapping[str, Any]) -> int:
    """Return the number of answers that parameters ask for: ``n``, or 1.

    Raises `DataError` for an ``n`` that is no whole number from 1 to `MOST_CHOICES`.
    """
    n = params.get("n")
    if n is None:
        return 1
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_CHOICES:
        raise DataError(f"n={n!r:.80}; expected a whole number from 1 to {MOST_CHOICES}.\nFix: n=3.")
    return n


def _bytes(request: Mapping[str, Any]) -> float:
    """Return the bytes of a request's messages and tools; infinite with a part that is not text, such as an image."""
    messages = request["messages"]
    if any(not isinstance(part, str) for m in messages for part in [m.get("content") or ""]):
        return math.inf
    return len(json.dumps([list(map(dict, messages)), request.get("tools")], default=repr).encode())


@attrs.frozen
class Usage:
    """Tokens of one call, counted by the server, or ``estimated`` if it counts none.

    Raises `DataError` for anything but whole numbers from 0 to `MOST_TOKENS`.
    """

    prompt: int = attrs.field(default=0, converter=_tokens)
    completion: int = attrs.field(default=0, converter=_tokens)
    estimated: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def estimate(cls, messages: Sequence[Message], text: str, most: int | None = None) -> Usage:
        """Estimate the usage of a call at four characters a token, and 0 for a part that is not text.

        ``most`` is the maximum that its reply may have had.
        """
        prompt = sum(len(text_in(message)) for message in messages) // CHARACTERS_PER_TOKEN
        completion = len(text) // CHARACTERS_PER_TOKEN
        return cls(prompt, completion if most is None else min(completion, most), estimated=True)

    @classmethod
    def counted(cls, prompt: int | None, completion: int | None, request: Mapping[str, Any], text: str) -> Usage:
        """Return a server's counts, with an estimate in place of each that is None.

        A 0 counts as missing, because some servers send it: a prompt always has tokens, and so has a text.  A count
        that is impossible for this ``request`` (its messages and parameters) and ``text`` counts as missing too: no
        tokenizer makes more tokens than bytes.
        """
        bound, choices = reply_limit(request), choices_wanted(request)
        bound = None if bound is None else bound * choices
        if prompt is not None and prompt > HIDDEN_PROMPT and prompt > HIDDEN_PROMPT + _bytes(request):
            prompt = None
        if completion is not None and bound is not None and completion > max(bound, len(text.encode())):
            completion = None
        if prompt and (completion or not text) and completion is not None:
            return cls(prompt, completion)
        guess = cls.estimate(request["messages"], text, bound)
        return cls(prompt or guess.prompt, completion or guess.completion, estimated=True)

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@attrs.frozen
class Quota:
    """A rate limit as an API reports it: ``left`` of ``limit`` requests or tokens remain.

    ``reset`` is the number of seconds until all are available again, ``seconds`` the window of the limit; each is None
    if the API does not report it.
    """

    of: Literal["requests", "tokens", "prompt_tokens", "completion_tokens"] = attrs.field(
        validator=attrs.validators.in_(("requests", "tokens", "prompt_tokens", "completion_tokens"))
    )
    limit: float = attrs.field(validator=_finite(above=0.0))
    left: float = attrs.field(validator=_finite())
    reset: float | None = attrs.field(default=None, validator=attrs.validators.optional(_finite()))
    seconds: float | None = attrs.field(default=None, validator=attrs.validators.optional(_finite(above=0.0)))


@attrs.frozen
class ToolCall:
    """A model's call of a tool.  ``arguments`` are JSON as the model wrote it, and may be malformed."""

    id: str = attrs.field(converter=_whole, validator=_is_text)
    name: str = attrs.field(converter=_whole, validator=_is_text)
    arguments: str = attrs.field(converter=_whole, validator=_is_text)


def _logprob(value: Any) -> float:
    """Return a log probability; servers write one of minus infinity as a large negative number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
        raise DataError(f"the log probability is {value!r:.80}; expected a number")
    return max(float(value), LEAST_LOGPROB)


def _texts(value: Any) -> tuple[str, ...]:
    texts = tuple(value)
    if isinstance(value, str) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"the reply's other choices are {value!r:.80}; expected texts")
    return tuple(map(whole_text, texts))


def _tokens_of(value: Any) -> tuple[TokenLogprob, ...]:
    tokens = tuple(value)
    if not all(isinstance(token, TokenLogprob) for token in tokens):
        raise DataError(f"the reply's logprobs are {value!r:.80}; expected TokenLogprob(token, logprob) values")
    return tokens


def _likeliest(given: Mapping[str, Any]) -> dict[str, float]:
    return {whole_text(token): _logprob(value) for token, value in given.items()}


LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON does not have, as in OpenAI's API."""


@attrs.frozen
class TokenLogprob:
    """A token of a reply, its log probability, and those of the likeliest tokens at its place (``top_logprobs=``)."""

    token: str = attrs.field(converter=_whole, validator=_is_text)
    logprob: float = attrs.field(converter=_logprob)
    top: Mapping[str, float] = attrs.field(factory=dict, converter=_likeliest)


@attrs.frozen
class Reply:
    """A model's answer.

    ``cost`` is in USD, None if no price is known.  ``finish`` is the provider's finish reason: ``"stop"``, or
    ``"length"`` for a reply that was truncated at its token limit.  ``quotas`` are the rate limits that the API
    reported; they are not part of the answer, and equality ignores them.

    ``thoughts`` are what a reasoning model wrote besides its answer.  A stage or a task gets replies whose ``text`` is
    without them; a journal keeps the text as the model sent it.  ``tool_calls`` are the model's calls of the tools
    that the request offered.  ``more`` are the texts of the other answers to a request with ``n=``; its tokens and cost
    are those of all.  ``logprobs`` are the tokens of a request with ``logprobs=True``.  ``parsed`` is the value that
    ``llm(..., parse=)`` read from the text; it is never stored, because a resumed run reads the text again.

    Raises `DataError` for a text, finish reason or model that is not a text, and for a cost that is not an amount.
    """

    text: str = attrs.field(converter=_whole, validator=_is_text)
    usage: Usage = attrs.field(default=Usage(), validator=attrs.validators.instance_of(Usage))
    cost: float | None = attrs.field(default=None, converter=_cost)
    finish: str = attrs.field(default="stop", converter=_whole, validator=_is_text)
    model: str = attrs.field(default="", converter=_whole, validator=_is_text)
    quotas: tuple[Quota, ...] = attrs.field(default=(), eq=False, repr=False)
    thoughts: str = attrs.field(default="", converter=_whole, validator=_is_text)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_tool_calls, kw_only=True)
    more: tuple[str, ...] = attrs.field(default=(), converter=_texts, kw_only=True)
    logprobs: tuple[TokenLogprob, ...] = attrs.field(default=(), converter=_tokens_of, kw_only=True)
    parsed: Any = attrs.field(default=None, eq=False, repr=False, kw_only=True)

    @property
    def truncated(self) -> bool:
        return self.finish == "length"

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts of all answers; the first is ``text``."""
        return self.text, *self.more

    @property
    def message(self) -> Message:
        """The reply as the assistant's message of the next request: its text, or None beside its calls of tools."""
        if not self.tool_calls:
            return {"role": "assistant", "content": self.text}
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.tool_calls
        ]
        return {"role": "assistant", "content": self.text or None, "tool_calls": calls}

    def without_thoughts(self) -> Reply:
        """Return the reply with the thoughts moved from its text into ``thoughts``."""
        text, thoughts = parted(self.text)
        more = tuple([parted(other)[0] for other in self.more])
        if not thoughts and more == self.more:
            return self
        return attrs.evolve(self, text=text, more=more, thoughts="\n".join(filter(None, (self.thoughts, thoughts))))

    def usable(self) -> str:
        """Return the answer, without thoughts, for a stage that parses it.

        Raises `flashgraph.UnusableReply` when the reply was truncated, refused, empty, or contains only thoughts.
        """
        said = self.without_thoughts()
        return usable(said.text, said.finish, said.thoughts)


@attrs.frozen
class Load:
    """A server's own report of its load: running requests, queued requests, and the share of its cache in use (0 to
    1)."""

    running: int
    waiting: int
    cache: float = 0.0


@runtime_checkable
class Model(Protocol):
    """Anything that answers chat messages.

    ``name`` is for people and must not contain a secret.  ``limit`` is the number of requests that the endpoint takes
    at once; the scheduler never has more in flight.

    A model may have optional members:

    - ``limits`` (a `flashgraph.llm.limits.Limits`): a limit that moves between 1 and ``limit``.
    - ``load()`` (async, returns a `Load` or None): the load of a server that reports it.
    - ``prioritises = True``: the model accepts an integer parameter ``priority``, the smallest first.
    - ``params``: a mapping of parameters that it sends with each request that does not override them.  A budget of
      tokens or money bounds replies itself, unless these parameters do.

    A model that knows its rate limits reports them with each reply (`Reply.quotas`) and each `PassingFault`.
    """

    @property
    def name(self) -> str: ...

    @property
    def limit(self) -> int: ...

    def open(self) -> AbstractAsyncContextManager[None]:
        """Hold the model's resources (connections, a server process) as long as a run lasts."""
        ...

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; ``params`` are OpenAI's sampling parameters (``temperature``, ``max_tokens``...).

        This is one try of one request.  After a `PassingFault` the caller gives its slot back, waits and calls again:
        the scheduler does that, or else `flashgraph.run.patience.reply_of`.  A model that retries internally keeps its
        slot meanwhile, and a budget counts its tries as one request.  Cancelling the call aborts the request on the
        server.

        Raises `ModelUnavailable` or `ModelRefused` when no request can succeed, and `RequestFailed` when only this one
        cannot.  Raises `PassingFault` when it may succeed later, or its subclass `Throttled` when none can now.
        """
        ...

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Return an upper bound in USD of a call with at most that many tokens; 0 for a free model, None if unknown."""
        ...


def bounds_cost(model: Model) -> bool:
    """Return whether a model's ``worst_cost`` bounds the cost of its replies, which its ``bounds_cost`` may deny."""
    return bool(getattr(model, "bounds_cost", True))
