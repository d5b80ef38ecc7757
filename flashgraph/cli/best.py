"""``flashgraph best RUN``: the texts of a run's champion, with their evidence."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.cli.stored import json_option, say_json
from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("best", short_help="Print or save the texts of a run's champion.")
@click.argument("run", metavar="RUN")
@click.option(
    "--artifact", type=click.IntRange(min=0), help="The number of an artifact to print instead of the champion."
)
@click.option("--pool", help="The pool of --artifact, if the graph has several.")
@click.option(
    "-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Save the texts and best.json in a folder."
)
@json_option
def command(run: str, artifact: int | None, pool: str | None, output: Path | None, as_json: bool) -> None:
    """Print the texts of the champion of RUN (a folder, or a name in runs/), or save them with -o.

    \b
    flashgraph best mine > prompt.txt
    flashgraph best mine -o prompts/          # COMPONENT.txt for each component, and best.json
    flashgraph best mine --artifact 12 -o prompts/

    best.json holds the texts, the score with its evidence, the models and a hash. Python reads it with
        fg.load_best("prompts"). The command also works while the run continues.
    """
    import attrs

    from flashgraph.observe.best import best_of

    found = best_of(run, artifact, pool)
    if as_json:
        say_json({**attrs.asdict(found), "hash": found.hash})
    score, tried = found.score, found.evidence
    said = "no score" if score is None else f"score {score:.2f}"
    if tried.get("tried") is not None:
        said += f" ({tried['tried']} of {tried['of']}, {tried['low']:.2f} to {tried['high']:.2f})"
    say(f"{found.run}: artifact {found.artifact} of {found.pool}, {said}", err=True)
    if output is not None:
        names = found.write(output)
        say(f"written to {output}: {', '.join(names)}", err=True)
    elif not as_json:
        for name, text in found.texts.items():
            if len(found.texts) > 1:
                say(f"# {name}")
            say(text)
