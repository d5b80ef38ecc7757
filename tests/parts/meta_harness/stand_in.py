"""A sandbox for trusted programs: the same interface, no processes, no time of its own.

A program calls ``llm`` synchronously, and under a virtual clock no thread may wait. So a program runs until it needs an
unknown reply. The reply is fetched, and the program runs again from the start. For deterministic programs the result is
the same.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from flashgraph.errors import RequestFailed
from flashgraph.sandbox import CandidateFailed, Ran
from flashgraph.tasks.task import Llm

__all__ = ["StandInSandbox"]


class _Wanted(BaseException):
    """The program needs a reply that has not been fetched; no handler of the program may catch this."""


class StandInSandbox:
    """Runs programs in this process; ``runs`` lists them as (entry, code)."""

    def __init__(self) -> None:
        self.opened = 0
        self.runs: list[tuple[str, str]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self.opened += 1
        yield

    async def run(
        self,
        code: str,
        entry: str = "main",
        arguments: Mapping[str, Any] = {},
        *,
        driver: str = "",
        llm: Llm | None = None,
        limits: object = None,
    ) -> Ran:
        self.runs.append((entry, code))
        replies: list[str | RequestFailed] = []
        while True:
            wanted: list[str] = []
            ask = None if llm is None else _replay(replies, wanted)
            try:
                value = _run(code, entry, dict(arguments), driver, ask)
                return Ran(value, "", "", 0.0)
            except _Wanted:
                assert llm is not None
                try:
                    replies.append((await llm(wanted[0])).text)
                except RequestFailed as error:
                    replies.append(error)
            except Exception as error:
                raise CandidateFailed("error", f"{type(error).__name__}: {error}") from error


def _replay(replies: list[str | RequestFailed], wanted: list[str]) -> Callable[[str], str]:
    given = iter(replies)

    def ask(prompt: str) -> str:
        for reply in given:
            if isinstance(reply, RequestFailed):
                raise RuntimeError(str(reply))
            return reply
        wanted.append(prompt)
        raise _Wanted

    return ask


def _run(code: str, entry: str, arguments: dict[str, Any], driver: str, ask: Callable[[str], str] | None) -> Any:
    candidate, main = ModuleType("candidate"), ModuleType("driver")
    if ask is not None:
        arguments["llm"] = ask
    sys.modules["candidate"] = candidate
    try:
        exec(compile(code, "candidate.py", "exec"), candidate.__dict__)
        exec(compile(driver, "driver.py", "exec"), main.__dict__)
        return getattr(main if driver else candidate, entry)(**arguments)
    finally:
        del sys.modules["candidate"]
