"""What a model is to a run: messages in, a reply with its usage and cost out.

The protocol is small on purpose, so that a user's own object can be a model.  Queueing is the scheduler's: a
model only says how many requests it takes at once (`Model.limit`), and never waits for a slot of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from flashgraph.replies import parted, usable

__all__ = ["Load", "Message", "Model", "Quota", "Reply", "Usage", "reply_limit", "text_in"]

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


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """The most tokens that parameters allow a reply; None where they do not bound it."""
    given = [params[name] for name in ("max_tokens", "max_completion_tokens") if params.get(name) is not None]
    return max(map(int, given)) if given else None


@attrs.frozen
class Usage:
    """Tokens of one call, as the server counted them, or ``estimated``, where it counts none."""

    prompt: int = 0
    completion: int = 0
    estimated: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def estimate(cls, messages: Sequence[Message], text: str, most: int | None = None) -> Usage:
        """That of a call whose tokens nobody counted, at four characters a token, and nothing for a part that is no
        text; ``most`` is what its reply may have had."""
        prompt = sum(len(text_in(message)) for message in messages) // CHARACTERS_PER_TOKEN
        completion = len(text) // CHARACTERS_PER_TOKEN
        return cls(prompt, completion if most is None else min(completion, most), estimated=True)

    @classmethod
    def counted(cls, prompt: Any, completion: Any, request: Mapping[str, Any], text: str) -> Usage:
        """What a server says that it has counted, and an estimate in the place of each number that is missing.

        A 0 is missing too, as some servers send it: there is no prompt without tokens, and no text.  ``request`` holds
        the messages and the parameters.
        """
        if prompt and (completion or not text):
            return cls(int(prompt), int(completion or 0))
        guess = cls.estimate(request["messages"], text, reply_limit(request))
        return cls(int(prompt or guess.prompt), int(completion or guess.completion), estimated=True)

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
class Reply:
    """What a model answered.

    ``cost`` is in USD and None where no price is known; ``finish`` is the provider's finish reason: ``"stop"``,
    or ``"length"`` for a reply that was cut off at its token limit.  ``quotas`` are what the API said of its rates when
    it let this request in; they are no part of the answer, and two replies that differ in them are equal.

    ``thoughts`` are what a reasoning model wrote besides its answer.  A stage or a task gets replies whose ``text`` is
    without them; a journal keeps the text as the model sent it.
    """

    text: str
    usage: Usage = Usage()
    cost: float | None = None
    finish: str = "stop"
    model: str = ""
    quotas: tuple[Quota, ...] = attrs.field(default=(), eq=False, repr=False)
    thoughts: str = ""

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

    A model may have more than is asked for here: ``limits`` (a `flashgraph.policies.limits.Limits`) for a limit that
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
