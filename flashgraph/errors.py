"""The errors that flashgraph raises for a user's mistake: each says where it is, what was found and the fix.

`FlashgraphError` is the base of all errors that a user can cause. The command line prints it as one message, never as a
traceback. All mistakes of a graph are collected as `Problem` values and raised together in one `GraphError`.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from traceback import walk_tb
from types import FrameType
from typing import Any

import attrs

__all__ = [
    "BudgetExhausted",
    "ContentFiltered",
    "ContextTooLong",
    "DataError",
    "FlashgraphError",
    "Flaw",
    "GraphError",
    "KeyRefused",
    "MalformedReply",
    "ModelError",
    "ModelRefused",
    "ModelUnavailable",
    "PassingFault",
    "Place",
    "Problem",
    "RequestFailed",
    "Throttled",
    "TimedOut",
    "UnknownModel",
    "UnusableReply",
    "described",
    "did_you_mean",
    "is_own",
]


class FlashgraphError(Exception):
    """A mistake that the user can fix; its text says where, what was found and what to do."""


@attrs.frozen(order=True)
class Place:
    """A file and a line (1-based; 0 if the line is not known)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @classmethod
    def of_caller(cls, package: str = "flashgraph") -> Place:
        """Return the nearest frame outside ``package``: the line of the graph file that made the current call."""
        frame = frame_of_caller(package)
        return cls("<unknown>") if frame is None else cls(frame.f_code.co_filename, frame.f_lineno)

    @classmethod
    def of_error(cls, error: BaseException) -> Place | None:
        """Return the innermost of the user's own lines that raised ``error``, or None if there is none.

        A line is the user's own if `is_own` says so.
        """
        found = None
        for frame, line in walk_tb(error.__traceback__):
            name, file = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename
            if is_own(name, file):
                found = cls(file, line)
        return found


def frame_of_caller(package: str = "flashgraph") -> FrameType | None:
    """Return the nearest frame outside ``package``; the shipped algorithms count as outside, being graph files."""
    frame: FrameType | None = sys._getframe(1)
    outside = f"{package}.algorithms."
    while frame is not None and (name := str(frame.f_globals.get("__name__", ""))).split(".")[0] == package:
        if name.startswith(outside):
            break
        frame = frame.f_back
    return frame


def is_own(module: str, file: str) -> bool:
    """Return whether code is the user's: not of this package, of Python, or of an installed library.

    The shipped algorithms count as the user's, because they are graph files like any other.
    """
    ours = module.split(".")[0] == "flashgraph" and not module.startswith("flashgraph.algorithms.")
    return not ours and not file.startswith(("<", *_libraries()))


@cache
def _libraries() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages."""
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@attrs.frozen
class Flaw:
    """A fault of a policy value; `check` adds its place."""

    found: str
    expected: str
    fix: str


@attrs.frozen
class Problem:
    """One mistake in a graph.

    ``code`` is short and stable (``unknown-param``), ``what`` names the thing, ``found`` and ``expected`` are phrases,
    and ``fix`` is the nearest correction.
    """

    code: str
    place: Place
    what: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.what} [{self.code}]\n"
            f"    found:    {self.found}\n"
            f"    expected: {self.expected}\n"
            f"    fix:      {self.fix}"
        )


class GraphError(FlashgraphError):
    """All problems of one graph, in the order of their lines."""

    def __init__(self, graph: str, problems: Iterable[Problem]) -> None:
        self.graph = graph
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: p.place))
        count = len(self.problems)
        head = f"graph {graph!r} has {count} problem{'' if count == 1 else 's'}"
        super().__init__("\n".join([head, *map(str, self.problems)]))


class DataError(FlashgraphError):
    """A task, data file or option that cannot be used as it is."""


class BudgetExhausted(FlashgraphError):
    """The stage's next request would exceed a limit of the budget."""


class ModelError(FlashgraphError):
    """A model call failed.  ``fatal`` says whether the run must stop, or only this request is lost."""

    fatal = False


class ModelUnavailable(ModelError):
    """The endpoint cannot be reached, or kept failing after all retries. The run stops and can be resumed."""

    fatal = True


class ModelRefused(ModelError):
    """The endpoint refuses every request: no permission, no credit, no chat completions.

    ``certain`` says that the cause is the caller (no key, no credit), not the request.
    """

    fatal = True

    def __init__(self, *args: object, certain: bool = False) -> None:
        super().__init__(*args)
        self.certain = certain


class KeyRefused(ModelRefused):
    """The key is missing, wrong, or not allowed to use this model."""


class UnknownModel(ModelRefused):
    """The endpoint does not have a model of this name."""


class RequestFailed(ModelError):
    """This one request failed for good.

    ``usage`` (a `flashgraph.llm.protocol.Usage`) is its cost, if the server worked on it. Without it, the server
    refused the request, which costs a call and no tokens.
    """

    def __init__(self, *args: object, usage: Any = None) -> None:
        super().__init__(*args)
        self.usage = usage


class ContextTooLong(RequestFailed):
    """The request does not fit the model's context; repeating it cannot succeed."""


class ContentFiltered(RequestFailed):
    """The provider's content filter blocked the request or the reply; repeating it meets the same filter."""


class MalformedReply(RequestFailed):
    """The reply is not a chat completion, even after a retry."""


class TimedOut(RequestFailed):
    """No answer came within the model's time-out, even after a retry."""


class UnusableReply(FlashgraphError):
    """A stage cannot use the model's reply: it is truncated, empty, refused, or of another form.

    Raise it in a stage: the stage fails with this reason, and the units that it ``counts`` stay spent. Twenty such
    failures in a row end the run.
    """


class PassingFault(ModelError):
    """One attempt of a request failed, and a retry may succeed; the request holds no slot while it waits.

    After ``tries`` attempts, ``final`` is raised instead. If ``final`` is `ModelUnavailable`, the endpoint is at fault,
    and its attempts are counted apart from those of other endpoints of the role. Otherwise the request is at fault.
    ``pause`` is how long the server asks to wait, in seconds. If it is None, the pauses start at ``backoff`` seconds
    and double. ``quotas`` (of `flashgraph.llm.protocol.Quota`) are the rates that the server reports.

    ``usage`` (a `flashgraph.llm.protocol.Usage`) is the cost of the attempt, if a reply came back. ``cut_off`` says
    that the attempt was given up while the server worked on it; its cost is estimated as that of a cancelled request.
        With neither, the attempt cost no tokens.
    """

    def __init__(
        self,
        final: ModelError,
        *,
        pause: float | None = None,
        tries: int = 6,
        backoff: float = 1.0,
        quotas: Sequence[Any] = (),
        usage: Any = None,
        cut_off: bool = False,
    ) -> None:
        super().__init__(final)
        self.final = final
        self.pause = pause
        self.tries = tries
        self.backoff = backoff
        self.quotas = tuple(quotas)
        self.usage = usage
        self.cut_off = cut_off


class Throttled(PassingFault):
    """The endpoint takes no more requests at this moment (429). This is not a fault, and costs no call.

    An endpoint that refused one request ``tries`` times is unavailable. The other parameters are those of
    `PassingFault`.
    """

    def __init__(
        self,
        message: str,
        *,
        pause: float | None = None,
        tries: int = 6,
        backoff: float = 1.0,
        quotas: Sequence[Any] = (),
    ) -> None:
        super().__init__(ModelUnavailable(message), pause=pause, tries=tries, backoff=backoff, quotas=quotas)
        self.args = (message,)


LONGEST_MESSAGE = 20_000
"""The most characters of an exception's message that are kept; they go to the journal, the events and the report."""


def described(error: BaseException) -> str:
    """Return the type and message of an exception of the user's code, whatever its ``__str__`` does."""
    try:
        message = str.__str__(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as other:
        message = f"(its __str__ raised {type(other).__name__})"
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]} [... {len(message) - LONGEST_MESSAGE} characters left out ...]"
    name = type.__getattribute__(type(error), "__name__")  # a user's metaclass is not called
    return f"{name}: {message}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest known name, or else the list of known names."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(sorted(known))}" if known else "none exists"
