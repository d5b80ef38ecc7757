"""``flashgraph diff RUN RUN``: a comparison of two stored runs."""

from __future__ import annotations

import click

from flashgraph.cli.stored import json_option, say_json
from flashgraph.text.terminal import say, say_diff, say_table

__all__ = ["command"]


@click.command("diff", short_help="Compare two stored runs.")
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@json_option
def command(first: str, second: str, as_json: bool) -> None:
    """Compare two runs (folders, or names in runs/).

    The comparison has the settings that differ, the spend, the best scores by calls and by time, and a diff of the
    best texts.
    """
    import attrs

    from flashgraph.observe.comparison import compare, scores_table, settings_table, spend_table
    from flashgraph.run.journal.reading import StoredRun

    with StoredRun.open(first) as one, StoredRun.open(second) as other:
        found = compare(one, other)
    if as_json:
        say_json(attrs.asdict(found))
        return
    if found.settings:
        say_table(settings_table(found))
    else:
        say("the settings are the same")
    for table in (spend_table(found), scores_table(found)):
        say()
        say_table(table)
    say()
    if found.diff is None:
        say("no texts to compare: one of the runs has accepted no artifact")
    else:
        say_diff(found.diff or ("the best texts are the same",))
