"""Forecasts as text, tables, JSON and a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from io import BytesIO
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import attrs

from flashgraph.errors import DataError
from flashgraph.observe.figure import LITERAL
from flashgraph.observe.words import clock, counted
from flashgraph.sim.measures import Forecast
from flashgraph.sim.sweep import Combination, Settings, Spread, spread
from flashgraph.sim.tune import Tuned, TunedSettings
from flashgraph.text.terminal import clean, grid

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "check_plotting", "combination_json", "figure", "forecast_json", "forecast_lines", "queues_table", "sweep_table",
    "tuned_json", "tuned_lines", "tuned_table",
]  # fmt: skip

RATES = ("proposals", "accepted", "evaluations", "calls")

# ---- one forecast ----------------------------------------------------------------------------------------


def forecast_lines(found: Forecast, target: float | None = None) -> list[str]:
    """Return a forecast in words."""
    rates = ", ".join(f"{found.per_minute(name):.1f} {name}" for name in RATES)
    lines = [f"{clock(found.seconds)} simulated; end: {found.reason}", f"per minute: {rates}"]
    for name, server in found.servers.items():
        lines.append(
            f"server {name} ({server.profile}, {counted(server.limit, 'slot')}): {server.use:.0%} used, "
            f"{server.running:.0f} requests running and {server.waiting:.0f} waiting on average, no slot free "
            f"{server.full:.0%} of the time"
        )
    lines.append(
        f"lag at admission: mean {found.mean_lag:.1f}, median {found.lag(0.5)}, 90th percentile {found.lag(0.9)}, "
        f"largest {max(found.lags, default=0)}"
    )
    cost = f", ${found.usd:.2f}" if found.usd else ""
    lines.append(
        f"tokens: {found.prompt_tokens:,} of prompts, {found.reply_tokens:,} of replies{cost}; "
        f"{counted(found.cancelled, 'call')} cancelled"
    )
    if found.score is not None:
        lines.append(f"true score on the simulated world: {found.score:.2f} at the end{_reached(found, target)}")
    elif target is not None:
        lines.append(f"{target:g} cannot be reached: this graph or task does not run on the simulated world")
    return [*lines, f"bound by: {found.bound}"]


def _reached(found: Forecast, target: float | None) -> str:
    if target is None:
        return ""
    reached = found.reached(target)
    return f", {target:g} " + (f"after {clock(reached.seconds)}" if reached else "not reached")


def queues_table(found: Forecast) -> Table:
    """Return a table of how many items queued on each edge."""
    rows = [(name, f"{queue.mean:.1f}", str(queue.most)) for name, queue in found.queues.items()]
    return grid(("waiting on", "mean", "most"), rows, ("mean", "most"))


def forecast_json(found: Forecast, target: float | None = None) -> dict[str, Any]:
    """Return all of a forecast, with rates per minute."""
    reached = None if target is None else found.reached(target)
    return {
        **attrs.asdict(found),
        "per_minute": {name: found.per_minute(name) for name in RATES},
        "score": found.score,
        "seconds_to_target": reached.seconds if reached else None,
    }


# ---- a comparison ----------------------------------------------------------------------------------------

Column = tuple[str, Callable[[Forecast], float], str]

COLUMNS: tuple[Column, ...] = (
    ("proposals/min", lambda f: f.per_minute("proposals"), ".1f"),
    ("accepted/min", lambda f: f.per_minute("accepted"), ".1f"),
    ("calls/min", lambda f: f.per_minute("calls"), ".0f"),
    ("server use", lambda f: f.use, ".0%"),
    ("lag", lambda f: f.mean_lag, ".1f"),
    ("Mtokens", lambda f: f.tokens / 1e6, ".1f"),
)


def sweep_table(found: Sequence[Combination], target: float | None = None) -> Table:
    """Return a table with a row for each combination: medians over its seeds, and the range of the scores."""
    columns = list(COLUMNS)
    if any(f.usd for c in found for f in c.forecasts.values()):
        columns.append(("usd", lambda f: f.usd, ".2f"))
    names = list(found[0].settings)
    scored = all(f.score is not None for c in found for f in c.forecasts.values())
    heads = [name for name, _, _ in columns] + ["score"] * scored
    heads += [] if target is None else [f"min to {target:g}"]
    rows = []
    for one in found:
        cells = [one.settings[name] for name in names]
        cells += [format(one.spread(figure).median, form) for _, figure, form in columns]
        cells += [_range(one.spread(lambda f: f.score or 0.0))] * scored
        cells += [] if target is None else [_minutes(one, target)]
        rows.append((*cells, str(len(one.forecasts)), _bound(one)))
    return grid((*names, *heads, "seeds", "bound by"), rows, (*names, *heads, "seeds"))


def _range(found: Spread) -> str:
    if found.least == found.most:
        return f"{found.median:.2f}"
    return f"{found.median:.2f} ({found.least:.2f} to {found.most:.2f})"


def _minutes(one: Combination, target: float) -> str:
    """Return the median minutes to the target; a seed that does not reach it counts as infinite."""
    points = [f.reached(target) for f in one.forecasts.values()]
    middle = spread([p.seconds / 60 if p else float("inf") for p in points]).median
    return "not reached" if middle == float("inf") else f"{middle:.1f}"


def _bound(one: Combination) -> str:
    bounds = [f.bound.partition(":")[0].partition(" (")[0] for f in one.forecasts.values()]
    return max(bounds, key=bounds.count)


def combination_json(one: Combination, target: float | None = None) -> dict[str, Any]:
    """Return the settings and the forecast of each seed."""
    return {
        "settings": dict(one.settings),
        "forecasts": {str(seed): forecast_json(f, target) for seed, f in one.forecasts.items()},
    }


PANELS: tuple[Column, ...] = (*COLUMNS[:2], COLUMNS[3], ("score", lambda f: f.score or 0.0, ".2f"))


def check_plotting() -> None:
    """Raise `DataError` without matplotlib."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise DataError(
            "plotting needs matplotlib, which is not installed.\n"
            "Fix: pip install 'flashgraph[draw]', or leave out -o and read the table."
        ) from error


def figure(found: Sequence[Combination], kind: Literal["svg", "png"]) -> bytes:
    """Return a plot with a bar for the median of each combination and its range over seeds.

    Raises `DataError` without matplotlib.
    """
    check_plotting()
    matplotlib = import_module("matplotlib")
    page = import_module("matplotlib.figure").Figure(figsize=(11, 1.4 + 0.28 * len(found)), layout="constrained")
    labels = [clean(", ".join(f"{n}={v}" for n, v in c.settings.items()) or "defaults") for c in found]
    scored = all(f.score is not None for c in found for f in c.forecasts.values())
    panels = PANELS if scored else PANELS[:-1]
    look = {"svg.hashsalt": "forecast", "font.family": "DejaVu Sans", "font.size": 9}
    with matplotlib.rc_context({**look, **LITERAL}):
        for axes, (name, value, _) in zip(page.subplots(1, len(panels), sharey=True), panels, strict=True):
            spreads = [c.spread(value) for c in found]
            ranges = [[s.median - s.least for s in spreads], [s.most - s.median for s in spreads]]
            axes.barh(labels, [s.median for s in spreads], xerr=ranges, color="#3267b0", ecolor="#1f2933", capsize=2)
            axes.set_title(name, fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        # The first combination is at the top.
        page.axes[0].set_ylim(len(found) - 0.5, -0.5)
        out = BytesIO()
        page.savefig(out, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


# ---- a tuned schedule ------------------------------------------------------------------------------------


def tuned_table(found: Tuned) -> Table:
    """Return a table of the finalists and the defaults: the goal's median and range over the seeds."""
    rows = [(_settings(c.settings), *_cells(found, c)) for c in (*found.finalists, found.default)]
    heads = (found.unit, "least", "most", "better than the defaults")
    return grid(("settings", *heads), rows, heads)


def _cells(found: Tuned, choice: TunedSettings) -> tuple[str, ...]:
    figures = [1 / c if found.goal == "throughput" else c for c in choice.costs.values()]
    shown = spread(figures)
    wins = sum(cost < found.default.costs[seed] for seed, cost in choice.costs.items())
    beats = "" if choice is found.default else f"{wins} of {counted(len(choice.costs), 'seed')}"
    return (*(f"{v:,.4g}" if v < 1000 else f"{v:,.0f}" for v in (shown.median, shown.least, shown.most)), beats)


def _settings(settings: Settings) -> str:
    return " ".join(f"{n}={v}" for n, v in settings.items()) or "(defaults)"


def tuned_lines(found: Tuned, options: Mapping[str, str]) -> list[str]:
    """Return the options to paste into `flashgraph run`, and how reliable they are."""
    seeds = len(found.best.costs)
    ratio = spread([cost / found.default.costs[seed] for seed, cost in found.best.costs.items()])
    if found.goal == "throughput":
        ratio = spread([1 / ratio.median, 1 / ratio.most, 1 / ratio.least])
    lines = [counted(found.simulations, "simulation")]
    if found.same:
        lines[0] += f"; {counted(found.same, 'setting')} skipped as equal to others or the defaults"
    if not found.better:
        return [*lines, "no setting was better than the defaults: keep the defaults"]
    lines += [
        f"the best is {ratio.median:.2f} times the defaults ({ratio.least:.2f} to {ratio.most:.2f}), and better on "
        f"{found.wins} of {counted(seeds, 'seed')}",
    ]
    if found.wins < seeds:
        lines.append("the evidence is weak: use more --seeds, or keep the defaults")
    return [*lines, "", *(f"--set {quote(f'{name}={value}')}" for name, value in options.items())]


def tuned_json(found: Tuned, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the whole search, with the options to use."""
    return {**attrs.asdict(found), "options": dict(options), "wins": found.wins, "better": found.better}
