"""The real sandbox, on machines that support it."""

from __future__ import annotations

from functools import cache

import anyio
import pytest

from flashgraph.errors import FlashgraphError
from flashgraph.sandbox import Sandbox

__all__ = ["needs_confinement"]


@cache
def _why_not() -> str:
    """Return why this machine cannot confine a program; empty if it can."""

    async def probe() -> None:
        box = Sandbox()
        async with box.open():
            await box.run("def main(): return 1")

    try:
        anyio.run(probe)
    except FlashgraphError as error:
        return str(error).splitlines()[0]
    return ""


needs_confinement = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
