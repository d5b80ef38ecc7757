"""``flashgraph view [RUN | FOLDER]``: a live page of stored runs, for a browser on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from flashgraph.text.terminal import say

__all__ = ["command"]


@click.command("view", short_help="Show runs in a browser, live.")
@click.argument("target", metavar="[RUN | FOLDER]", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port on 127.0.0.1.  [default: a free one]")
@click.option("--open", "opens", is_flag=True, help="Open the page in the default browser.")
def command(target: Path, port: int, opens: bool) -> None:
    """Serve a page that shows RUN (a folder, or a name in runs/), or every run in FOLDER, until Ctrl-C.

    It only reads the journals, so a run in progress is neither delayed nor changed. Only this machine can open the
    page, and only with the printed address, which holds a secret token.

    \b
    flashgraph view
    flashgraph view runs/mine --open
    """
    import anyio

    try:
        anyio.run(_serve, target, port, opens)
    except KeyboardInterrupt:
        return


async def _serve(target: Path, port: int, opens: bool) -> None:
    import webbrowser

    import anyio

    from flashgraph.errors import DataError
    from flashgraph.view.server import viewed

    try:
        async with viewed(target, port=port) as guard:
            say(f"view: {guard.address}")
            if opens:
                webbrowser.open(guard.address)
            await anyio.sleep_forever()
    except OSError as error:
        raise DataError(
            f"port {port} of 127.0.0.1: {error.strerror}.\nFix: give another --port, or leave it out."
        ) from error
