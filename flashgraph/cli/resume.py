"""``flashgraph resume RUN``: continue a run that ended, was stopped or was killed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flashgraph.cli.options import (
    FROM_ONE,
    OVER_ZERO,
    absolute,
    models_by_role,
    role_budget_option,
    role_limits,
)
from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("resume", short_help="Continue a run from its journal.")
@click.argument("run")
@click.option("--graph", help="The graph, if its file has moved.")
@click.option("--task", metavar="FILE[:NAME]", help="The task, if its file has moved.")
@click.option("--model", "models", multiple=True, metavar="[ROLE=]SPEC", help="Replace a model.")
@click.option("--minutes", type=OVER_ZERO, help="Budget of the whole run, earlier sessions included: minutes.")
@click.option("--proposals", type=FROM_ONE, help="Budget of the whole run: proposals.")
@click.option("--evaluations", type=FROM_ONE, help="Budget of the whole run: evaluations.")
@click.option("--calls", type=FROM_ONE, help="Budget of the whole run: model calls.")
@click.option("--tokens", type=FROM_ONE, help="Budget of the whole run: tokens.")
@click.option("--usd", type=OVER_ZERO, help="Budget of the whole run: US dollars.")
@role_budget_option
@click.option(
    "--target-score",
    type=float,
    help="Stop when the best artifact reaches this score; inf: never.  [default: unchanged]",
)
@click.option(
    "--patience",
    type=FROM_ONE,
    help="Stop after this many proposals in a row that do not improve on the best artifact.  [default: unchanged]",
)
@click.option(
    "--grace", type=click.FloatRange(min=0), default=30.0, show_default=True, help="As for `run`, in seconds."
)
@click.option("--accept-changes", is_flag=True, help="Resume even if functions or policies of the graph have changed.")
@click.option(
    "--test/--no-test",
    default=None,
    help="Whether to score the seed and the best artifact on the test split at the end.  [default: unchanged]",
)
@click.option(
    "--unsafe-no-sandbox", is_flag=True, help="As for `run`; it holds for one session, so give it at each resume."
)
@click.option("--trust", is_flag=True, help="Resume a run of another user without asking.")
@click.option(
    "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True, help="The event loop."
)
def command(run: str, models: tuple[str, ...], minutes: float | None, backend: str, **options: Any) -> int:
    """Continue RUN (a folder, or a name in runs/) from the end of its journal.

    Finished work is neither repeated nor paid again. Only a request whose reply was lost, because the run was killed,
    is sent again. Failed work is not retried. Limits of the budget are for the whole run; a limit that you do not give
    stays as it is.

    If you did not start the run yourself on this machine, the command first asks for confirmation. It shows the code
    that it would run, and where it would send requests and keys.

    \b
    flashgraph resume runs/gepa-tickets-20260101-120000
    flashgraph resume runs/gepa-tickets-20260101-120000 --proposals 200
    """
    from flashgraph.cli.session import Order, carry_out
    from flashgraph.cli.trust import require_trust
    from flashgraph.graph.loading import load_graph, load_task
    from flashgraph.launch.arguments import roles_of
    from flashgraph.launch.seeding import seeded
    from flashgraph.run.budget import Budget
    from flashgraph.run.journal.folders import find_run
    from flashgraph.run.journal.keeper import read_header, require_no_link

    # Resolve paths before the user's code runs, because it may change the working directory.
    home, folder = Path.cwd(), find_run(run)
    require_no_link(folder)
    header = read_header(folder)
    words = dict(header.order)
    given_models = models_by_role(models, list(words.get("models", {})))
    require_trust(folder, words, {**options, "models": given_models}, options["trust"])
    if words.get("unconfined") and not options["unsafe_no_sandbox"]:
        say(
            "the run was started with --unsafe-no-sandbox and now continues in the sandbox; "
            "to continue without a sandbox, give --unsafe-no-sandbox again",
            err=True,
        )
    words["unconfined"] = bool(words.get("unconfined")) or options["unsafe_no_sandbox"]
    for name in ("graph", "task"):
        words[name] = absolute(options[name]) if options[name] else words.get(name)
        if not words[name]:
            raise click.UsageError(f"the run was started from Python, which stores no {name}: give --{name} FILE")
    graph = load_graph(words["graph"])
    graph.checked()
    task = seeded(load_task(words["task"]), words.get("seed_from"))
    roles = roles_of(graph.spec, task)
    words["models"] = {**words.get("models", {}), **models_by_role(models, roles)}
    words["test"] = words.get("test", True) if options["test"] is None else options["test"]
    words["target"] = words.get("target") if options["target_score"] is None else options["target_score"]
    words["patience"] = words.get("patience") if options["patience"] is None else options["patience"]
    limits = {name: options[name] for name in ("proposals", "evaluations", "calls", "tokens", "usd")}
    given = {name: value for name, value in limits.items() if value is not None}
    if minutes is not None:
        given["seconds"] = minutes * 60
    given |= role_limits(options["roles"])
    before = _budget_before(home / folder, given)
    order = Order(
        graph=graph,
        task=task,
        models=words["models"],
        schedule=header.schedule,
        settings=words.get("settings", {}),
        seed=header.seed,
        budget=Budget.of({**before, **given}),
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
    """Return the last limits of the run.

    Raises click's usage error for a ``given`` limit below the run's use, because the run would end at once.
    """
    from flashgraph.run.journal.reading import StoredRun

    with StoredRun.open(folder) as stored:
        used_by, limits = {**stored.account(), "seconds": stored.seconds()}, dict(stored.limits())
    for name, limit in given.items():
        used = used_by.get(name, 0.0)
        if limit < used:
            per, of = (60, "minutes") if name == "seconds" else (1, name)
            option, equals = ("--budget", f"--budget {name}=") if "." in name else (f"--{of}", f"--{of} ")
            raise click.BadParameter(
                f"found {limit / per:g}, but the run has already used {used / per:g} {of}; expected a limit for "
                f"the whole run, e.g. {equals}{math.ceil(2 * used / per)}",
                param_hint=f"'{option}'",
            )
    return limits
