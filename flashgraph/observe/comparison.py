"""A comparison of two stored runs: their settings, their scores over calls and time, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from flashgraph.evidence import Evidence
from flashgraph.observe.words import clock, score_text
from flashgraph.run.journal.header import Header
from flashgraph.run.journal.jsontext import printed
from flashgraph.run.journal.reading import StoredRun
from flashgraph.run.journal.stored import ChampionMoment, text_diff
from flashgraph.text.terminal import grid

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Comparison", "Milestone", "Setting", "compare", "scores_table", "settings_table", "spend_table"]

MILESTONES = 8
"""The number of points at which scores are compared, over calls and over time."""

LABELS = {"failed": "failed calls", "lost": "lost calls", "unanswered": "unanswered calls", "seconds": "time"}
SINGLE = ("graph", "task", "schedule", "seed", "version")
NAMED = ("limits", "params", "policies", "topology", "order")


@attrs.frozen
class Setting:
    """A setting that differs between two runs; None where a run does not have it."""

    name: str
    first: Any
    second: Any


@attrs.frozen
class Milestone:
    """The champions' scores ``after`` some calls or seconds; None before a run's first champion and after its end."""

    after: float
    first: float | None
    second: float | None


@attrs.frozen
class Comparison:
    """The comparison of two runs.

    ``spend`` holds a pair of amounts for each name, ``evidence`` that of the two best scores.  ``diff`` leads from the
    first run's best texts to the second's; it is None if a run has none.
    """

    names: tuple[str, str]
    settings: tuple[Setting, ...]
    spend: Mapping[str, tuple[float | None, float | None]]
    calls: tuple[Milestone, ...]
    seconds: tuple[Milestone, ...]
    diff: tuple[str, ...] | None
    evidence: tuple[Evidence | None, Evidence | None] = (None, None)


def compare(first: StoredRun, second: StoredRun) -> Comparison:
    """Compare two runs, each read in one snapshot."""
    with first.snapshot(), second.snapshot():
        runs = (first, second)
        spends = [run.spend() for run in runs]
        curves = (first.curve(), second.curve())
        best = [run.best() for run in runs]
        names = _names(first, second)
        amounts: dict[str, tuple[float | None, float | None]] = {
            "best": (first.best_score(), second.best_score()),
            "accepted": (first.accepted(), second.accepted()),
        }
        for field in attrs.fields(type(spends[0])):
            amounts[field.name] = (getattr(spends[0], field.name), getattr(spends[1], field.name))
        return Comparison(
            names=names,
            settings=tuple(_settings(first.header, second.header)),
            spend=amounts,
            calls=_milestones(curves, (spends[0].calls, spends[1].calls), lambda p: p.calls, whole=True),
            seconds=_milestones(curves, (spends[0].seconds, spends[1].seconds), lambda p: p.at),
            diff=None
            if best[0] is None or best[1] is None
            else text_diff(best[0].texts, best[1].texts, (f"best of {names[0]}", f"best of {names[1]}")),
            evidence=(first.best_evidence(), second.best_evidence()),
        )


def _names(first: StoredRun, second: StoredRun) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return str(first.folder), str(second.folder)


def _settings(first: Header, second: Header) -> list[Setting]:
    found = [Setting(name, getattr(first, name), getattr(second, name)) for name in SINGLE]
    for kind in NAMED:
        one, other = getattr(first, kind), getattr(second, kind)
        found += [Setting(f"{kind}: {name}", one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])]
    others = first.other_functions(second)
    found += [Setting(f"function: {name}", first.functions[name], second.functions[name]) for name in others]
    return [setting for setting in found if setting.first != setting.second]


def _milestones(
    curves: tuple[Sequence[ChampionMoment], Sequence[ChampionMoment]],
    ends: tuple[float, float],
    place: Callable[[ChampionMoment], float],
    whole: bool = False,
) -> tuple[Milestone, ...]:
    most = max(ends)
    if not most:
        return ()
    steps = [most * k / MILESTONES for k in range(1, MILESTONES + 1)]
    # Rounded up, so that the last milestone includes the last call.
    afters = list(dict.fromkeys(-(-step // 1) for step in steps)) if whole else steps

    def reached(curve: Sequence[ChampionMoment], end: float, after: float, before: float) -> float | None:
        if before >= end:
            return None
        return next((p.score for p in reversed(curve) if place(p) <= after), None)

    found, before = [], 0.0
    for after in afters:
        one, other = (reached(curve, end, after, before) for curve, end in zip(curves, ends, strict=True))
        found.append(Milestone(after, one, other))
        before = after
    return tuple(found)


# ---- tables ----------------------------------------------------------------------------------------------


def settings_table(found: Comparison) -> Table:
    """Return a table of the settings that differ."""
    rows = [(s.name, _value(s.first), _value(s.second)) for s in found.settings]
    return grid(("setting", *found.names), rows)


def spend_table(found: Comparison) -> Table:
    """Return a table of the runs' scores and spend."""
    rows = [
        (LABELS.get(name, name.replace("_", " ")), _amount(name, one), _amount(name, other))
        for name, (one, other) in found.spend.items()
    ]
    one, other = (score_text(score, e) for score, e in zip(found.spend["best"], found.evidence, strict=True))
    rows[list(found.spend).index("best")] = ("best", one, other)
    return grid(("total", *found.names), rows, found.names)


def scores_table(found: Comparison) -> Table:
    """Return a table of the champions' scores by calls, then by time; cells after a run's end are blank."""
    rows = [(f"{m.after:,.0f} calls", _score(m.first), _score(m.second)) for m in found.calls]
    rows += [(_moment(m.after), _score(m.first), _score(m.second)) for m in found.seconds]
    return grid(("best score after", *found.names), rows, found.names)


def _moment(seconds: float) -> str:
    return clock(seconds) if seconds >= 60 else f"{seconds:.1f} s"


def _score(score: float | None) -> str:
    return "" if score is None else score_text(score)


def _value(value: Any) -> str:
    return "(none)" if value is None else value if isinstance(value, str) else printed(value)


def _amount(name: str, amount: float | None) -> str:
    if amount is None:
        return "-"
    return _moment(amount) if name == "seconds" else f"{amount:,.4f}" if name == "usd" else f"{amount:,}"
