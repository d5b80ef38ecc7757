"""Shapes of generated graphs, as plain data."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from flashgraph.testing.tokens import draw

__all__ = ["Choice", "Ending", "Fan", "Loop", "Rule", "Segment", "Shape", "Split", "Step"]


class _Brief:
    """A class whose repr leaves out default values, for readable reports of failing examples."""

    def __repr__(self) -> str:
        shown = []
        for place in attrs.fields(type(self)):  # type: ignore[arg-type]  # those below are attrs classes
            value = getattr(self, place.name)
            if place.default is attrs.NOTHING:
                shown.append(repr(value))
            elif value != place.default:
                shown.append(f"{place.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


Rule = Literal["fraction", "count", "deadline", "decided", "sampled"]


@attrs.frozen(repr=False)
class Step(_Brief):
    """One stage.

    ``fail`` and ``drop`` are the shares of items that it fails on or filters; ``calls`` counts its model calls.
    """

    fail: float = 0.0
    drop: float = 0.0
    calls: int = 0
    role: str = "model"
    """The role of the model that it calls."""
    reads: bool = False
    side: bool = False
    """Whether it reads the second pool, in a shape that has one."""
    names: Literal["", "oldest", "newest"] = ""
    """The artifact of its view that it names as a parent of its result."""
    workers: int | None = None
    several: int = 1
    stale: str = ""
    """The staleness rule of its in-edge: ``""``, ``"discard"``, ``"strict"`` (discard at any lag), ``"repair"``,
    ``"touched"`` (repair under a condition), ``"either"`` (discard, or else repair) or ``"refresh"`` (needs ``reads``).
    ``"side"`` discards at any lag behind the second pool, where sources read both.
    """
    capacity: int | None = None
    order: Literal["", "freshest", "priority"] = ""
    counts: bool = False
    """Whether each of its jobs is an evaluation."""
    keeps: bool = False
    """Whether its in-edge keeps orphans."""
    plain: bool = False
    """Whether it is a plain function that takes no time, if it calls no model."""
    caught: bool = False
    """Whether an edge takes its failures to a stage that makes a token of each."""


@attrs.frozen(repr=False)
class Fan(_Brief):
    """A stage on each of ``width`` members, more segments inside, and a stage after the gather."""

    width: int
    member: Step
    inner: tuple[Segment, ...]
    after: Step
    release: float = 1.0
    late: Literal["cancel", "drop", "amend"] | None = None
    fail_above: float | None = None
    discriminative: bool = False
    rule: Rule = "fraction"
    other: tuple[Step, Step] | None = None
    """A stage before a second gather of the same members, and the stage after that gather; both groups continue."""
    apart: bool = False
    """Whether each member goes to only one of the two gathers."""


@attrs.frozen(repr=False)
class Choice(_Brief):
    """Two branches, by a condition and ``otherwise``, that meet again."""

    left: Step
    right: Step
    join: Step


@attrs.frozen(repr=False)
class Split(_Brief):
    """Two branches that both take each item and meet again, so that each item becomes two."""

    left: Step
    right: Step
    join: Step


@attrs.frozen(repr=False)
class Loop(_Brief):
    """A stage and a check that sends some items back, at most ``times``."""

    times: int
    body: Step
    check: Step


Segment = Step | Fan | Choice | Split | Loop


@attrs.frozen(repr=False)
class Ending(_Brief):
    """The way into the pool: direct, or by a group of ``width`` that may be released early and amended."""

    width: int = 0
    member: Step = Step()
    release: float = 1.0
    late: Literal["cancel", "drop", "amend"] | None = None
    discard_above: int | None = None
    threshold: float = 0.0
    rule: Rule = "fraction"
    discriminative: bool = False


@attrs.frozen(repr=False)
class Shape(_Brief):
    """A whole graph: one or two sources that share the way to one pool.

    With ``second_pool`` the first stage's results go to another pool too.  ``latency`` names a distribution of stage
    and call times: ``"zero"``, ``"constant"``, ``"long-tail"`` or ``"bimodal"``.
    """

    segments: tuple[Segment, ...]
    ending: Ending = Ending()
    rounds: int = 4
    second_source: bool = False
    second_pool: bool = False
    both: bool = False
    """Whether sources read both pools, in a shape that has two."""
    latency: str = "long-tail"
    salt: int = 0
    refused: float = 0.0
    """The share of requests that fail for good; half of them time out."""
    shy: float = 0.0
    """The share of views from which the sources draw nothing while they have open rounds."""

    contends: int = 0
    """The number of further members on which the newest artifact is tried; 0 for none."""

    def fate(self, request: str) -> str:
        """Return how a request ends: ``"answered"``, ``"failed"`` at once or ``"timeout"``."""
        u = draw(self.salt, "refused", request)
        return "answered" if u >= self.refused else "failed" if u < self.refused / 2 else "timeout"

    def seconds(self, *key: object) -> float:
        """Return the latency for ``key``, in seconds."""
        u = draw(self.salt, "latency", *key)
        match self.latency:
            case "zero":
                return 0.0
            case "constant":
                return 1.0
            case "bimodal":
                return 0.5 if u < 0.8 else 30.0
            case _:
                # Sixty-fourths of a second add up without rounding errors, so that equal instants are equal on every
                # clock.
                return round(64 * math.exp(3 * (u - 0.5)) + (2560 if u > 0.97 else 0)) / 64
