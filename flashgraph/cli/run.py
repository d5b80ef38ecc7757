"""``flashgraph run GRAPH --task FILE --model SPEC``: evolve, and say what came of it."""

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


@click.command("run")
@click.argument("graph")
@click.option("--task", required=True, metavar="FILE[:NAME]", help="The Python file with the fg.Task.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[ROLE=]SPEC",
    help="A model for a role of the graph, or one for all of them: openai:URL#MODEL, vllm:URL#MODEL, litellm:NAME, "
    "local, sim:PROFILE. May be given often.",
)
@schedule_option
@set_option
@click.option("--seed", default=0, show_default=True, help="Every random draw follows from it.")
@budget_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the run's files.  [default: runs/GRAPH-TASK-TIME]",
)
@click.option(
    "--target-score",
    type=float,
    help="Stop when the best has reached this score; inf: never.  [default: the task's greatest score on all of the "
    "validation; none in lockstep]",
)
@click.option("--patience", type=FROM_ONE, help="Stop when so many proposals in a row have not improved on the best.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that what runs has to end in after Ctrl-C, before it is cancelled.",
)
@click.option("--no-test", is_flag=True, help="Do not score seed and best on the held-out test split at the end.")
@click.option(
    "--cache",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Keep replies at temperature 0 in a file that runs share, and ask no model what is in it.",
)
@click.option("--cache-samples", is_flag=True, help="With --cache: replies at higher temperatures too.")
@click.option(
    "--unsafe-no-sandbox",
    is_flag=True,
    help="Run code that a model wrote without confinement, where none can be set up.",
)
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
def command(
    graph: str,
    task: str,
    models: tuple[str, ...],
    settings: tuple[str, ...],
    backend: str,
    **options: Any,
) -> int:
    """Run GRAPH on a task until a budget is reached or nothing is left to do.

    Progress goes to stderr; the outcome goes to stdout and, as files, into --out, with a journal from which the run
    can be resumed. The first Ctrl-C (or SIGTERM, or SIGHUP) starts nothing new and lets what runs end, the second
    cancels it.

    \b
    flashgraph run gepa --task task.py --model local --minutes 8
    flashgraph run gepa --task task.py --model task=vllm:http://localhost:8000#qwen \\
        --model reflection=openai:https://api.openai.com#gpt-5 --proposals 100
    """
    from flashgraph.cli.session import Order, carry_out
    from flashgraph.graph.loading import load_graph, load_task

    # Before any code of the user's runs, which may change the working directory.
    home, graph, task, cache = Path.cwd(), absolute(graph), absolute(task), cache_file(options["cache"])
    chosen, overrides = load_graph(graph), pairs(settings)
    chosen.checked()
    roles = sorted({s.llm for s in chosen.spec.stages if s.llm is not None})
    order = Order(
        graph=chosen,
        task=load_task(task),
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
        words={
            "cache": cache,
            "any_temperature": options["cache_samples"],
            "graph": graph,
            "task": task,
            "models": dict(models_by_role(models, roles)),
            "settings": overrides,
            "unconfined": options["unsafe_no_sandbox"],
            "test": not options["no_test"],
            "target": options["target_score"],
            "patience": options["patience"],
        },
    )
    return carry_out(order, backend)
