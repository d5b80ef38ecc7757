"""``flashgraph run GRAPH --task FILE --model SPEC``: run an algorithm and report its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flashgraph.cli.options import (
    FROM_ONE,
    absolute,
    budget_of,
    budget_options,
    cache_file,
    models_by_role,
    pairs,
    schedule_option,
    set_option,
)

__all__ = ["command"]


@click.command("run", short_help="Run GRAPH on a task.")
@click.argument("graph")
@click.option("--task", required=True, metavar="FILE[:NAME]", help="A Python file that defines a fg.Task.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[ROLE=]SPEC",
    help="The model of one role of the graph, or of all roles: openai:URL#MODEL, vllm:URL#MODEL, litellm:NAME, local, "
    "sim:PROFILE. Repeatable.",
)
@schedule_option
@set_option
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option(
    "--seed-from",
    metavar="RUN|FILE",
    help="Replace the task's seed by the best artifact of an earlier run, or by the texts in a JSON file (such as "
    "best.json).",
)
@budget_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the journal and the results.  [default: runs/GRAPH-TASK-TIME]",
)
@click.option(
    "--target-score",
    type=float,
    help="Stop when the best artifact reaches this score; inf: never.  [default: the task's greatest score on every "
    "validation sample; never in lockstep]",
)
@click.option(
    "--patience",
    type=FROM_ONE,
    help="Stop after this many proposals in a row that do not improve on the best artifact.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that running work may take to finish after the first Ctrl-C, before it is cancelled.",
)
@click.option("--no-test", is_flag=True, help="Do not score the seed and the best artifact on the test split.")
@click.option(
    "--cache",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Reuse replies at temperature 0 across runs, from a file.  [default file: in the user's cache folder]",
)
@click.option("--cache-samples", is_flag=True, help="With --cache: reuse replies at higher temperatures too.")
@click.option(
    "--unsafe-no-sandbox",
    is_flag=True,
    help="Run code that a model wrote without a sandbox, where none can be set up.",
)
@click.option("--view", is_flag=True, help="Serve a live page of the run until it ends; its address is printed.")
@click.option(
    "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True, help="The event loop."
)
def command(
    graph: str,
    task: str,
    models: tuple[str, ...],
    settings: tuple[str, ...],
    backend: str,
    **options: Any,
) -> int:
    """Run GRAPH on a task until a limit of the budget is reached or no work is left.

    Progress goes to stderr, the outcome to stdout and into files in --out. The journal there lets `flashgraph resume`
    continue the run. The first Ctrl-C (or SIGTERM, or SIGHUP) starts no new work and waits for running work; the second
    cancels it.

    \b
    flashgraph run gepa --task task.py --model local --minutes 8
    flashgraph run gepa --task task.py --model task=vllm:http://localhost:8000#qwen \\
        --model reflection=openai:https://api.openai.com#gpt-5 --proposals 100
    """
    from flashgraph.cli.session import Order, carry_out
    from flashgraph.graph.loading import load_graph, load_task
    from flashgraph.launch.arguments import roles_of
    from flashgraph.launch.seeding import seeded, texts_from

    # Resolve paths before the user's code runs, because it may change the working directory.
    home, graph, task, cache = Path.cwd(), absolute(graph), absolute(task), cache_file(options["cache"])
    first = None if options["seed_from"] is None else texts_from(options["seed_from"])
    chosen, overrides = load_graph(graph), pairs(settings)
    chosen.checked()
    loaded = seeded(load_task(task), first)
    roles = roles_of(chosen.spec, loaded)
    order = Order(
        graph=chosen,
        task=loaded,
        models=models_by_role(models, roles),
        schedule=options["schedule"],
        settings=overrides,
        seed=options["seed"],
        budget=budget_of(options),
        out=options["out"],
        test=not options["no_test"],
        unconfined=options["unsafe_no_sandbox"],
        grace=options["grace"],
        target=options["target_score"],
        patience=options["patience"],
        home=home,
        cache=cache,
        any_temperature=options["cache_samples"],
        view=options["view"],
        words={
            "cache": cache,
            "any_temperature": options["cache_samples"],
            "graph": graph,
            "task": task,
            "models": dict(models_by_role(models, roles)),
            "settings": overrides,
            "unconfined": options["unsafe_no_sandbox"],
            "test": not options["no_test"],
            "seed_from": first,
            "target": options["target_score"],
            "patience": options["patience"],
        },
    )
    return carry_out(order, backend)
