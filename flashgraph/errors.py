"""What flashgraph raises for a user's mistake, each with the place, the finding and the fix.

`FlashgraphError` is the base of everything a user can cause; the command line prints it as one message, never
as a traceback.  A graph's mistakes are collected as `Problem` values and raised together as one `GraphError`.
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
    """A mistake that the user can mend; its text says where, what was found and what to do."""


@attrs.frozen(order=True)
class Place:
    """Where something was written: a file and a line (1-based; 0 where the line is not known)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    @classmethod
    def of_caller(cls, package: str = "flashgraph") -> Place:
        """The nearest frame outside ``package``: the line of the graph file that made the current call."""
        frame = frame_of_caller(package)
        return cls("<unknown>") if frame is None else cls(frame.f_code.co_filename, frame.f_lineno)

    @classmethod
    def of_error(cls, error: BaseException) -> Place | None:
        """The innermost line of the user's own among those that raised ``error``; None where there is none: not one
        of this package (the shipped algorithms are graph files like any user's), nor of an installed library."""
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
    """Whether code is the user's: of no module of this package (but the shipped algorithms are graph files like any
    user's), nor of Python or of an installed library."""
    ours = module.split(".")[0] == "flashgraph" and not module.startswith("flashgraph.algorithms.")
    return not ours and not file.startswith(("<", *_libraries()))


@cache
def _libraries() -> tuple[str, ...]:
    """The folders of Python's own modules and of what is installed."""
    paths = sysconfig.get_paths()
    return tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@attrs.frozen
class Flaw:
    """What is wrong with a policy value, for `check` to place."""

    found: str
    expected: str
    fix: str


@attrs.frozen
class Problem:
    """One mistake in a graph.

    ``code`` is stable and short (``unknown-param``), ``what`` names the thing, ``found`` and ``expected`` are
    phrases, ``fix`` is the nearest correction.
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
    """Raised inside a stage when its next request would exceed a limit of the budget."""


class ModelError(FlashgraphError):
    """A model call failed.  ``fatal`` says whether the run must stop, or only this request is lost."""

    fatal = False


class ModelUnavailable(ModelError):
    """The endpoint cannot be reached, or kept failing after all retries: the run stops and can be run again."""

    fatal = True


class ModelRefused(ModelError):
    """The endpoint refuses every request: no permission, no credit, no chat completions.

    ``certain`` says that it refuses who asks (no key, no credit), whatever is asked.
    """

    fatal = True

    def __init__(self, *said: object, certain: bool = False) -> None:
        super().__init__(*said)
        self.certain = certain


class KeyRefused(ModelRefused):
    """The key is missing, wrong, or not allowed to use this model."""


class UnknownModel(ModelRefused):
    """The endpoint does not have a model of this name."""


class RequestFailed(ModelError):
    """This one request failed for good.

    ``usage`` (a `flashgraph.llm.protocol.Usage`) is what it has cost, where the server has worked on it; without, it
    was refused, which costs a call and no tokens.
    """

    def __init__(self, *said: object, usage: Any = None) -> None:
        super().__init__(*said)
        self.usage = usage


class ContextTooLong(RequestFailed):
    """The request does not fit into the model's context; the same again never will."""


class ContentFiltered(RequestFailed):
    """The provider's content filter took the request or the reply; the same again meets the same filter."""


class MalformedReply(RequestFailed):
    """What came back is no chat completion, also when it was asked for again."""


class TimedOut(RequestFailed):
    """No answer came within the model's time-out, also when it was asked for again."""


class UnusableReply(FlashgraphError):
    """A model has answered, and a stage cannot make anything of it: cut off, empty, refused, or of another form.

    Raise it in a stage: the stage has failed with this reason, what it ``spends`` is spent, and twenty such failures in
    a row end the run.
    """


class PassingFault(ModelError):
    """One try of a request failed in a way that may pass: ask again, without holding a slot meanwhile.

    After ``tries`` tries ``final`` is raised in its place.  If that is `ModelUnavailable`, the endpoint is at fault,
    and its tries count apart from those of others that may answer the request; if it is anything else, the request is.
    ``pause`` is how many seconds the server asks to wait; where it is None, the pauses begin with ``backoff`` seconds
    and double.  ``quotas`` (of `flashgraph.llm.protocol.Quota`) are what the server says of its rates.

    ``usage`` (a `flashgraph.llm.protocol.Usage`) is what the try has cost, where something came back.  ``cut_off`` says
    that it was given up while the server worked on it: its cost is estimated as that of a request that is cancelled.
    With neither it has cost no tokens.
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
    """The endpoint takes no more requests at this moment (429): no fault, and it counts as no call.

    An endpoint that has turned one request away ``tries`` times is unavailable.  The rest is as with any
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


LONGEST_SAID = 20_000
"""Characters of what an exception says that are kept: it goes to the journal, the events and the report."""


def described(error: BaseException) -> str:
    """Return the type of an exception of the user's code and what it says, whatever its ``__str__`` does."""
    try:
        said = str.__str__(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as other:
        said = f"(its __str__ raised {type(other).__name__})"
    if len(said) > LONGEST_SAID:
        said = f"{said[:LONGEST_SAID]} [... {len(said) - LONGEST_SAID} characters left out ...]"
    return f"{type(error).__name__}: {said}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``did you mean 'x'?`` for the closest known name, else the list of what there is."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there is: {', '.join(sorted(known))}" if known else "there is none"
