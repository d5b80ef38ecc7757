"""Join attempts that start together into one call of a program that only takes batches."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from flashgraph.errors import BudgetExhausted, DataError, FlashgraphError

__all__ = ["batched"]

_open: anyio.lowlevel.RunVar[dict[Any, _Batch]] = anyio.lowlevel.RunVar("flashgraph.batches")


@attrs.define(eq=False)
class _Member:
    """An attempt in a batch: its sample, and the model as its stage calls it.

    ``gone`` says that its stage has ended, ``refused`` that the budget has refused one of its calls.
    """

    sample: Any
    llm: Callable[..., Awaitable[Any]]
    gone: bool = False
    refused: bool = False


@attrs.define(eq=False)
class _Batch:
    """The attempts of one batch; its first member makes the call for all."""

    members: list[_Member] = attrs.field(factory=list)
    outputs: Sequence[Any] | None = None
    """None before the call has returned, and if its first member was cancelled."""
    error: Exception | None = None
    ended: anyio.Event = attrs.field(factory=anyio.Event)

    async def llm(self, turns: itertools.count[int], *messages: Any, **params: Any) -> Any:
        """Call the model for one member after the other: each has a slot of its own."""
        while True:
            present = [member for member in self.members if not member.gone]
            member = present[next(turns) % len(present)]
            try:
                return await member.llm(*messages, **params)
            except FlashgraphError as error:
                member.refused |= isinstance(error, BudgetExhausted)
                if not member.gone:  # otherwise its call ended with its stage
                    raise


async def batched(
    key: Any,
    call: Callable[[Sequence[Any], Callable[..., Awaitable[Any]]], Awaitable[Sequence[Any]]],
    sample: Any,
    llm: Callable[..., Awaitable[Any]],
) -> Any:
    """Return the output for ``sample`` of ``call(samples, llm)``, made once for all attempts with an equal ``key``.

    A batch has the attempts that start in one turn of the event loop.  Its calls of ``llm`` use the slots of all its
    members.  If the attempt that makes the call is cancelled, the others form another batch.  Raises the member of the
    outputs that is an exception, and what ``call`` raises.
    """
    batches = _open.get({})
    _open.set(batches)
    while True:
        member = _Member(sample, llm)
        first = key not in batches
        batch = batches.setdefault(key, _Batch())
        place = len(batch.members)
        batch.members.append(member)
        try:
            if first:
                await _lead(batches, key, batch, call)
            else:
                await batch.ended.wait()
        finally:
            member.gone = True
        if batch.error is not None and not _refused_others(batch, member):
            raise batch.error
        if batch.outputs is not None:
            output = batch.outputs[place]
            if isinstance(output, Exception):
                raise output
            return output


async def _lead(batches: dict[Any, _Batch], key: Any, batch: _Batch, call: Callable[..., Awaitable[Any]]) -> None:
    """Wait for the other attempts of this turn, and make the call for all that are still there."""
    turns = itertools.count()

    async def llm(*messages: Any, **params: Any) -> Any:
        return await batch.llm(turns, *messages, **params)

    try:
        await anyio.lowlevel.checkpoint()
        del batches[key]
        found = await call([member.sample for member in batch.members], llm)
        batch.outputs = _checked(found, len(batch.members))
    except Exception as error:
        batch.error = error
    finally:
        if batches.get(key) is batch:
            del batches[key]
        batch.ended.set()


def _refused_others(batch: _Batch, member: _Member) -> bool:
    """Whether the budget ended a batch at a call of another member: the stage of this one has to meet its limit too."""
    refused = any(other.refused for other in batch.members)
    return isinstance(batch.error, BudgetExhausted) and refused and not member.refused


def _checked(found: Any, count: int) -> Sequence[Any]:
    if isinstance(found, str | bytes) or not isinstance(found, Sequence) or len(found) != count:
        raise DataError(
            f"attempt_batch returned {found!r:.80}; expected {count} outputs in a list, one for each sample.\n"
            "Fix: return [output for each of samples], with an exception instead of one that failed."
        )
    return found
