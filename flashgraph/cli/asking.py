"""Asking the user before something is done that cannot be undone."""

from __future__ import annotations

import click

__all__ = ["agreed"]


def agreed(question: str) -> bool:
    """Return whether the user says yes; no where there is nobody to ask."""
    try:
        return click.confirm(question, err=True)
    except (click.Abort, OSError, RuntimeError):  # the input has ended, or there is none; or Ctrl-C
        click.echo("", err=True)
        return False
