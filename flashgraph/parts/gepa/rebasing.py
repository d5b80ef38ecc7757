"""Rebase a child on a better candidate that was admitted meanwhile; the published loop has no such step."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from flashgraph.parts.gepa.items import Child
from flashgraph.parts.reflection import fenced_answers
from flashgraph.tasks.task import Llm

__all__ = ["rebased"]

REBASE = """Two instructions for the same assistant were improved apart from each other.
The best one so far:
```
{best}
```
Another one, which learned from different examples:
```
{text}
```
Write one instruction that keeps every fact and rule of the best one and adds what only the other one knows. Where they
contradict each other, follow the best one. Give only the new instruction, between ``` fences."""


async def rebased(child: Child, best: Mapping[str, str], llm: Llm) -> Child:
    """Return the child with the texts of ``best``, into which a model has worked what the child alone knows.

    Only the components that the child changed are rewritten.  Raises `UnusableReply` if no reply can be used.
    """
    asked = {name: REBASE.format(best=best[name], text=child.text[name]) for name in child.rewritten}
    return attrs.evolve(child, text={**best, **await fenced_answers(llm, asked)})
