"""What a model is to a run: messages in, a reply with its usage and cost out.

The protocol is small on purpose, so that a user's own object can be a model.  Queueing is the scheduler's: a
model only says how many requests it takes at once (`Model.limit`), and never waits for a slot of its own.
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
    "MOST_TOKENS", "REPLY_LIMITS", "Load", "Message", "Model", "Quota", "Reply", "ToolCall", "Usage", "bounds_cost",
    "is_count", "reply_limit", "text_in", "whole_text",
]  # fmt: skip

Message = Mapping[str, Any]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": text}``, or in the place of the text parts
as OpenAI's API has them: ``[{"type": "text", "text": text}, {"type": "image_url", ...}, ...]``."""


def text_in(message: Message) -> str:
    """The text of a message: of a content that is made of parts, that of its text parts together."""
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
"""No model has read or written so many tokens in one request: a larger count is a mistake of whoever counted."""


REPLY_LIMITS = ("max_tokens", "max_completion_tokens")
"""Parameters that bound a reply."""

HIDDEN_PROMPT = 20_000
"""Tokens of a prompt that its request may not show: a chat template's, tools', a system prompt of the server's own."""


def is_count(value: object) -> bool:
    """Whether ``value`` is a number of tokens: whole, from 0 to `MOST_TOKENS`, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def whole_text(text: str) -> str:
    """Return ``text`` with U+FFFD for each lone half of a surrogate pair.

    JSON's escapes can hold such a half, and a reply that was cut off within a character does.  No file, database or
    terminal takes it.
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
        raise DataError(f"the reply's cost is {value!r:.80}; expected USD from 0, or None where no price is known")
    return cost


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """Return the most tokens that parameters allow a reply; None where they do not bound it, as -1 does for llama.cpp.

    Raises `DataError` for a bound that is no whole number.
    """
    given = {name: params[name] for name in REPLY_LIMITS if params.get(name) is not None}
    for name, value in given.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value != int(value):
            raise DataError(f"{name}={value!r:.80}; expected a whole number of tokens.\nFix: {name}=1000.")
    return max(map(int, given.values())) if given and min(given.values()) >= 1 else None


def _bytes(request: Mapping[str, Any]) -> float:
    """The bytes of a request's messages and tools; infinite with a part that is no text, which may be an image."""
    messages = request["messages"]
    if any(not isinstance(part, str) for m in messages for part in [m.get("content") or ""]):
        return math.inf
    return len(json.dumps([list(map(dict, messages)), request.get("tools")], default=repr).encode())


@attrs.frozen
class Usage:
    """Tokens of one call, as the server counted them, or ``estimated``, where it counts none.

    Raises `DataError` for anything but whole numbers from 0 to `MOST_TOKENS`.
    """

    prompt: int = attrs.field(default=0, converter=_tokens)
    completion: int = attrs.field(default=0, converter=_tokens)
    estimated: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def estimate(cls, messages: Sequence[Message], text: str, most: int | None = None) -> Usage:
        """That of a call whose tokens nobody counted, at four characters a token, and nothing for a part that is no
        text; ``most`` is what its reply may have had."""
        prompt = sum(len(text_in(message)) for message in messages) // CHARACTERS_PER_TOKEN
        completion = len(text) // CHARACTERS_PER_TOKEN
        return cls(prompt, completion if most is None else min(completion, most), estimated=True)

    @classmethod
    def counted(cls, prompt: int | None, completion: int | None, request: Mapping[str, Any], text: str) -> Usage:
        """Return what a server has counted, with an estimate in the place of each number that is None.

        A 0 is missing too, because some servers send it: there is no prompt without tokens, and no text.  So is a
        number that cannot be true of this ``request`` (its messages and parameters) and the ``text`` that came: no
        tokenizer makes more tokens than bytes.
        """
        bound = reply_limit(request)
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
    """What an API says of one of its rates: of ``limit`` requests or tokens in some time ``left`` are left.

    ``reset`` is in how many seconds all of them are there again, ``seconds`` the time that the limit is for; each is
    None where the API does not say it.
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
    """A call of a tool that a model asks for.  ``arguments`` are JSON as the model wrote it, and may be malformed."""

    id: str = attrs.field(converter=_whole, validator=_is_text)
    name: str = attrs.field(converter=_whole, validator=_is_text)
    arguments: str = attrs.field(converter=_whole, validator=_is_text)


@attrs.frozen
class Reply:
    """What a model answered.

    ``cost`` is in USD and None where no price is known; ``finish`` is the provider's finish reason: ``"stop"``,
    or ``"length"`` for a reply that was cut off at its token limit.  ``quotas`` are what the API said of its rates when
    it let this request in; they are no part of the answer, and two replies that differ in them are equal.

    ``thoughts`` are what a reasoning model wrote besides its answer.  A stage or a task gets replies whose ``text`` is
    without them; a journal keeps the text as the model sent it.  ``tool_calls`` are what the model asks for, of the
    tools that the request offered.

    Raises `DataError` for a text, finish reason or model that is no text, and for a cost that is no amount of USD.
    """

    text: str = attrs.field(converter=_whole, validator=_is_text)
    usage: Usage = attrs.field(default=Usage(), validator=attrs.validators.instance_of(Usage))
    cost: float | None = attrs.field(default=None, converter=_cost)
    finish: str = attrs.field(default="stop", converter=_whole, validator=_is_text)
    model: str = attrs.field(default="", converter=_whole, validator=_is_text)
    quotas: tuple[Quota, ...] = attrs.field(default=(), eq=False, repr=False)
    thoughts: str = attrs.field(default="", converter=_whole, validator=_is_text)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_tool_calls, kw_only=True)

    @property
    def truncated(self) -> bool:
        return self.finish == "length"

    def without_thoughts(self) -> Reply:
        """Return the reply with its thoughts taken off its text and put into ``thoughts``."""
        text, thoughts = parted(self.text)
        if not thoughts:
            return self
        return attrs.evolve(self, text=text, thoughts="\n".join(filter(None, (self.thoughts, thoughts))))

    def usable(self) -> str:
        """Return the answer, without thoughts, for a stage that makes something of it.

        Raises `flashgraph.UnusableReply` when the reply was cut off, refused, empty, or holds thoughts alone.
        """
        said = self.without_thoughts()
        return usable(said.text, said.finish, said.thoughts)


@attrs.frozen
class Load:
    """What a server says of itself: requests that it is running, requests that wait in it, and the share of its cache
    that is in use (0 to 1)."""

    running: int
    waiting: int
    cache: float = 0.0


@runtime_checkable
class Model(Protocol):
    """Anything that answers chat messages.

    ``name`` is for people and must hold no secret.  ``limit`` is the number of requests the endpoint takes at
    once; the scheduler never has more in flight.

    A model may have more than is asked for here: ``limits`` (a `flashgraph.llm.limits.Limits`) for a limit that
    moves between 1 and ``limit``, ``load()`` (async, a `Load` or None) for a server that says how full it is, and
    ``prioritises = True`` for one that takes a whole number ``priority`` among the parameters, the smallest first.
    ``params`` is a mapping of what it sends with each request that does not say otherwise: a budget of tokens or money
    bounds the replies that nothing in there does.  One that knows its rates says so with each reply (`Reply.quotas`)
    and each `PassingFault`.
    """

    @property
    def name(self) -> str: ...

    @property
    def limit(self) -> int: ...

    def open(self) -> AbstractAsyncContextManager[None]:
        """Hold the model's resources (connections, a server process) for as long as a run lasts."""
        ...

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        """Answer ``messages``; ``params`` are OpenAI's sampling parameters (``temperature``, ``max_tokens``...).

        One try of one request.  Who asked waits and asks again after a `PassingFault`, and gives its slot back
        meanwhile: the scheduler, or else `flashgraph.run.patience.reply_of`.  A model that tries again in here holds
        its slot meanwhile, and its tries are one request to a budget.  Cancelling the call aborts the request on the
        server.

        Raises `ModelUnavailable` or `ModelRefused` when no request can succeed, `RequestFailed` when only this
        one cannot, `PassingFault` when it may succeed later, and of those `Throttled` when none can now.
        """
        ...

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        """Upper bound in USD of a call with at most so many tokens; 0 for a free model, None if not known."""
        ...


def bounds_cost(model: Model) -> bool:
    """Return whether a model's ``worst_cost`` bounds what its replies cost; only one that may say otherwise has a
    ``bounds_cost`` of its own."""
    return bool(getattr(model, "bounds_cost", True))
