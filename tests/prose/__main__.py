"""Check prose: `python -m tests.prose [paths]`; `--update` lowers the allowances to the findings that are left."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.prose.allowed import Allowances
from tests.prose.files import ROOT, files
from tests.prose.style import findings, library_checks


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--all", "every", is_flag=True, help="Show the allowed findings as well.")
@click.option("--update", is_flag=True, help="Lower the allowances to the findings that are left.")
def main(paths: tuple[Path, ...], every: bool, update: bool) -> None:
    """Check the prose of PATHS, or of the whole project; exit with 1 if findings and allowances differ."""
    allowed = Allowances.load()
    found = {name: findings(path, name) for name, path in files(paths).items()}
    counts = {name: len(those) for name, those in found.items()}
    if update:
        allowed = allowed.lowered(counts, whole=not paths)
        allowed.save()
    for name, those in found.items():
        if every or len(those) > allowed.of(name):
            click.echo("".join(f"{finding}\n" for finding in those), nl=False)
    problems = allowed.problems(counts, whole=not paths)
    for problem in problems:
        click.echo(problem, err=True)
    if not library_checks():
        click.echo("proselint is not installed: checked the house style alone", err=True)
    click.echo(f"{sum(counts.values())} findings in {len(counts)} files of {ROOT.name}", err=True)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
