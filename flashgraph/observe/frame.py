"""The display of a run on a terminal: rows by importance, which fit any window."""

from __future__ import annotations

from collections.abc import Iterator

from flashgraph.observe.progress import EndpointProgress, PoolProgress, Progress
from flashgraph.observe.words import clock, counted
from flashgraph.run.budget import unit

__all__ = ["frame", "outlook_of", "spark", "status"]

BAR = 20
"""The width of the bar."""

SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588", "_.:-=+*#"
"""The signs of a small curve, in Unicode and in ASCII."""

COLUMNS = ("waiting", "working", "done", "failed", "cancelled", "per min", "tokens", "lost")
"""The columns of stages; narrow windows show the first ones."""


def frame(progress: Progress, width: int, height: int, ascii_only: bool = False) -> list[tuple[str, str]]:
    """Return lines and their styles, at most ``height``, cut from below: what matters most is first."""
    rows = [(progress.notice, "bold yellow")] if progress.notice else []
    rows += [(_bar(progress), "bold"), (_best(progress, ascii_only), "")]
    rows += [(line, "") for line in (*_spend(progress, width), *_servers(progress))]
    rows += [(line, "cyan") for line in progress.news]
    rows += _stages(progress, width)
    rows += [(f"{name} {_state(pool)}", "dim") for name, pool in progress.pools.items()]
    return [(line if len(line) <= width else line[: width - 3] + "...", style) for line, style in rows[:height]]


def status(progress: Progress) -> str:
    """Return one line about the run, for logs: time, estimate, best, requests and spend."""
    requests = f"{counted(progress.in_flight, 'request')} in flight, {progress.waiting:,} waiting"
    return "; ".join([_time(progress), f"best {progress.best_text}", requests, ", ".join(_spent(progress))])


def outlook_of(progress: Progress) -> tuple[float, str, float | None]:
    """Return the share of the budget that is used, the limit that binds, and the seconds left at the present pace.

    Reserved amounts count as used, because nothing else can be started with them.
    """
    shares = {}
    if (most := progress.budget.seconds) is not None:
        shares["seconds"] = progress.now / most
    for name, limit in progress.budget.limits.items():
        shares[name] = (progress.spent[name] + progress.reserved.get(name, 0.0)) / limit
    if not shares:
        return 0.0, "", None
    binds = max(shares, key=lambda name: shares[name])
    share = min(1.0, shares[binds])
    return share, binds, progress.now * (1 - share) / share if share > 0 else None


def _bar(progress: Progress) -> str:
    share, binds, _ = outlook_of(progress)
    bar = f"[{'#' * round(BAR * share):-<{BAR}}] " if binds else ""
    return bar + _time(progress)


def _time(progress: Progress) -> str:
    """Return the share of the budget, the time, and an estimate of the time that is left."""
    share, binds, left = outlook_of(progress)
    used = f"{share:.0%}{'' if binds == 'seconds' else f' of {binds}'}, " if binds else ""
    most = "" if progress.budget.seconds is None else f" of {clock(progress.budget.seconds)}"
    return f"{used}{clock(progress.now)}{most}" + ("" if left is None else f", about {clock(left)} left")


def _best(progress: Progress, ascii_only: bool) -> str:
    parts = [f"best {progress.best_text}"]
    if (seed := progress.seed_score) is not None:
        parts.append(f"seed {seed:.3f}")
    if progress.gains:
        at, _ = progress.gains[-1]
        parts.append(
            f"{spark([score for _, score in progress.gains], ascii_only)} changed {clock(progress.now - at)} ago"
        )
    parts.append(f"{progress.accepted:,} accepted")
    return ", ".join(parts)


def spark(values: list[float], ascii_only: bool = False) -> str:
    """Return the last 16 values as a curve of small signs."""
    signs, shown = SPARKS[ascii_only], values[-16:]
    low, high = min(shown), max(shown)
    return "".join(signs[round((value - low) / (high - low) * 7) if high > low else 0] for value in shown)


def _spend(progress: Progress, width: int) -> Iterator[str]:
    """Yield what was spent, in lines that fit."""
    line = ""
    for part in _spent(progress):
        if line and len(line) + len(part) + 2 > width:
            yield line
            line = ""
        line = f"{line}, {part}" if line else part
    yield line


def _spent(progress: Progress) -> list[str]:
    """Return each limit as used, reserved and limit; first the ones that have a limit."""
    limits = progress.budget.limits
    shown = dict.fromkeys([*limits, "proposals", "evaluations", "calls", "tokens"])
    if progress.spent["usd"]:
        shown["usd"] = None
    return [_of(progress.spent[name], progress.reserved.get(name, 0.0), name, limits.get(name)) for name in shown]


def _of(used: float, reserved: float, name: str, limit: float | None) -> str:
    money = unit(name) == "usd"

    def number(amount: float) -> str:
        return f"${amount:.4f}" if money else f"{amount:,.0f}"

    aside = f" + {number(reserved)} reserved" if reserved and limit is not None else ""
    most = "" if limit is None else f" of ${limit:g}" if money else f" of {limit:,}"
    return f"{number(used)}{aside}{most}" + ("" if name == "usd" else f" {name}")


def _servers(progress: Progress) -> Iterator[str]:
    """Yield a line for each endpoint, and one about replies that were cut."""
    waits = f", {progress.waiting:,} waiting" if progress.waiting else ""
    for name, endpoint in progress.endpoints.items():
        yield f"{name} {_served(endpoint)}{waits if len(progress.endpoints) == 1 else ''}"
    if waits and len(progress.endpoints) != 1:
        yield f"{counted(progress.waiting, 'request')} waiting for a slot"
    if progress.truncated:
        yield f"replies truncated at the token limit: {progress.truncated:,}"


def _served(endpoint: EndpointProgress) -> str:
    limit = "" if endpoint.limit is None else f" of {endpoint.limit}"
    rates = "".join(f", {rate}" for rate in endpoint.rates.values())
    throttled = f", {endpoint.throttled:,} throttled" if endpoint.throttled else ""
    return f"{'down, ' if endpoint.down else ''}{endpoint.in_flight}{limit} in flight{rates}{throttled}"


def _stages(progress: Progress, width: int) -> list[tuple[str, str]]:
    """Return the table of stages with as many columns as fit."""
    most = max([len("stage"), *map(len, progress.stages)])
    columns = COLUMNS[: max(1, (width - most) // 11)]
    rows = [(f"{'stage':<{most}}" + "".join(f"{name:>11}" for name in columns), "dim")]
    for name, stage in progress.stages.items():
        cells = {
            "waiting": len(stage.waiting), "working": stage.working, "done": stage.done, "failed": stage.failed,
            "cancelled": stage.cancelled, "tokens": stage.tokens, "lost": stage.lost,
        }  # fmt: skip
        shown = {key: f"{value:,}" for key, value in cells.items()} | {"per min": f"{stage.rate(progress.now):.1f}"}
        rows.append(
            (f"{name:<{most}}" + "".join(f"{shown[key]:>11}" for key in columns), "red" if stage.failed else "")
        )
    return rows


def _state(pool: PoolProgress) -> str:
    mean = sum(pool.lags) / max(len(pool.lags), 1)
    held = f"{counted(len(pool.scores), 'artifact')} ({len(pool.provisional)} provisional)"
    return f"version {pool.version}, {held}, mean lag {mean:.1f}, largest {max(pool.lags, default=0)}"
