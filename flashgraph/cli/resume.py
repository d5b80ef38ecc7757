"""``flashgraph resume RUN``: go on with a run that ended, was stopped or was killed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flashgraph.cli.options import FROM_ONE, OVER_ZERO, absolute, models_by_role
from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("resume")
@click.argument("run")
@click.option("--graph", help="The graph, if its file is no longer where it was.")
@click.option("--task", metavar="FILE[:NAME]", help="The task, if its file is no longer where it was.")
@click.option("--model", "models", multiple=True, metavar="[ROLE=]SPEC", help="Other models than before.")
@click.option("--minutes", type=OVER_ZERO, help="Budget of the whole run, its earlier sessions included.")
@click.option("--proposals", type=FROM_ONE, help="Budget of the whole run: proposals.")
@click.option("--evaluations", type=FROM_ONE, help="Budget of the whole run: evaluations.")
@click.option("--calls", type=FROM_ONE, help="Budget of the whole run: model calls.")
@click.option("--tokens", type=FROM_ONE, help="Budget of the whole run: tokens.")
@click.option("--usd", type=OVER_ZERO, help="Budget of the whole run: US dollars.")
@click.option(
    "--target-score", type=float, help="Stop when the best has reached this score; inf: never.  [default: as before]"
)
@click.option("--patience", type=FROM_ONE, help="Proposals in a row that may come to nothing.  [default: as before]")
@click.option("--grace", type=click.FloatRange(min=0), default=30.0, show_default=True, help="As for run.")
@click.option(
    "--accept-changes", is_flag=True, help="Go on although functions or policies of the graph are others than before."
)
@click.option(
    "--test/--no-test",
    default=None,
    help="Score seed and best on the held-out test split at the end, or not.  [default: as when the run was started]",
)
@click.option(
    "--unsafe-no-sandbox", is_flag=True, help="As for run; it holds for this session, and has to be said each time."
)
@click.option("--trust", is_flag=True, help="Do what the run's folder says without asking, also if it is not yours.")
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
def command(run: str, models: tuple[str, ...], minutes: float | None, backend: str, **options: Any) -> int:
    """Go on with RUN, a folder or a name below runs/, from where its journal ends.

    Nothing that was finished is done or paid again. Only a request whose answer was lost when the run was killed is
    sent once more. The budget is that of the whole run; without options it is what it was. What has failed is not tried
    again.

    Of a run that you have not started yourself on this machine, what its folder says is shown first, and asked about:
    which code is run, and where requests and keys go.

    \b
    flashgraph resume runs/gepa-tickets-20260101-120000
    flashgraph resume runs/gepa-tickets-20260101-120000 --proposals 200
    """
    from flashgraph.cli.session import Order, carry_out
    from flashgraph.cli.trust import require_trust
    from flashgraph.graph.loading import load_graph, load_task
    from flashgraph.run.budget import Budget
    from flashgraph.run.journal.folders import find_run
    from flashgraph.run.journal.keeper import read_header

    # Before any code of the user's runs, which may change the working directory.
    home, folder = Path.cwd(), find_run(run)
    header = read_header(folder)
    words = dict(header.order)
    given_models = models_by_role(models, list(words.get("models", {})))
    require_trust(folder, words, {**options, "models": given_models}, options["trust"])
    if words.get("unconfined") and not options["unsafe_no_sandbox"]:
        say(
            "the run was started with --unsafe-no-sandbox; it goes on in the sandbox. "
            "To go on without one, say it again.",
            err=True,
        )
    words["unconfined"] = bool(words.get("unconfined")) or options["unsafe_no_sandbox"]
    for name in ("graph", "task"):
        words[name] = absolute(options[name]) if options[name] else words.get(name)
        if not words[name]:
            raise click.UsageError(f"the run was started from Python: say --{name} {name.upper()}")
    graph = load_graph(words["graph"])
    graph.checked()
    roles = sorted({s.llm for s in graph.spec.stages if s.llm is not None})
    words["models"] = {**words.get("models", {}), **models_by_role(models, roles)}
    words["test"] = words.get("test", True) if options["test"] is None else options["test"]
    words["target"] = words.get("target") if options["target_score"] is None else options["target_score"]
    words["patience"] = words.get("patience") if options["patience"] is None else options["patience"]
    limits = {name: options[name] for name in ("proposals", "evaluations", "calls", "tokens", "usd")}
    given = {name: value for name, value in limits.items() if value is not None}
    if minutes is not None:
        given["seconds"] = minutes * 60
    before = _budget_before(home / folder, given)
    order = Order(
        graph=graph,
        task=load_task(words["task"]),
        models=words["models"],
        schedule=header.schedule,
        settings=words.get("settings", {}),
        seed=header.seed,
        budget=Budget(**{**before, **given}),
        out=folder,
        home=home,
        test=words["test"],
        unconfined=options["unsafe_no_sandbox"],
        cache=words.get("cache"),
        any_temperature=bool(words.get("any_temperature")),
        resume=True,
        accept_changes=options["accept_changes"],
        grace=options["grace"],
        target=words["target"],
        patience=words["patience"],
        words=words,
    )
    return carry_out(order, backend)


def _budget_before(folder: Path, given: Mapping[str, float]) -> dict[str, float]:
    """The limits that the run had last.

    Refuses ``given`` ones below what it has used: they would be reached before anything could be done.
    """
    from flashgraph.run.journal.reading import StoredRun

    with StoredRun.open(folder) as stored:
        spend, limits = stored.spend(), dict(stored.limits())
    for name, limit in given.items():
        used = getattr(spend, name)
        if limit < used:
            per, option = (60, "minutes") if name == "seconds" else (1, name)
            raise click.BadParameter(
                f"found {limit / per:g}, but the run has used {used / per:g} {option} already; expected the budget of "
                f"the whole run, e.g. --{option} {math.ceil(2 * used / per)}",
                param_hint=f"'--{option}'",
            )
    return limits
