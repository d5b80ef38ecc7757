"""Items and the groups and rounds they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Group, Member
from flashgraph.run.claims import Claim

__all__ = ["GroupState", "Item", "RoundState"]

Lineage = frozenset[tuple[str, int]]


@attrs.define(eq=False)
class Item:
    """A value on an edge, in its envelope.

    ``scope`` is the stack of groups the item is a member of, as (group, index); ``stamps`` are the pool versions it
    was made from; ``uses`` are the artifacts that are its parents, ``lineage`` those and all their ancestors;
    ``late`` says that its group went on without it.  A repair replaces value and stamps; nothing else changes them.
    ``path`` is how it came about, from its round's emission on: the same whenever it comes about.
    """

    id: int
    value: Any
    edge: str
    round: int
    parents: tuple[int, ...]
    scope: tuple[tuple[int, int], ...]
    stamps: Mapping[str, int]
    uses: tuple[tuple[str, int], ...]
    lineage: Lineage
    loops: Mapping[str, int]
    path: str
    late: bool = False
    repairs: int = 0
    gathered: GatherState | None = None
    """For an item that is a gathered group: what the edge knows of it."""
    amends: bool = False
    """Whether a gathered group is delivered for the second time."""
    claim: Claim | None = None
    """Of an edge that takes equal values once: the key that it, or what it was made from, was taken under."""

    @property
    def version(self) -> int:
        return max(self.stamps.values(), default=0)


@attrs.define(eq=False)
class RoundState:
    """``open`` counts the items that hold the round's place in its source's window, ``late`` those that do not;
    ``oldest`` are the first versions that it has read, by pool."""

    id: int
    source: str
    open: int = 0
    late: int = 0
    failed: bool = False
    oldest: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class GatherState:
    """What has become of a group's members at one gathering edge."""

    edge: str
    members: list[Member[Any]]
    items: list[Item] = attrs.field(factory=list)
    arrived: int = 0
    ended: int = 0
    failed: int = 0
    unsent: int = 0
    """Members that were not sampled: nobody tries them."""
    released: bool = False
    amended: bool = False
    closed: bool = False
    """Whether it goes on no more: nobody waits for the rest, or what was delivered has been retracted."""
    artifact: tuple[str, int] | None = None
    """What a pool admitted when the group was released early."""

    @property
    def complete(self) -> bool:
        return self.ended >= len(self.members)

    @property
    def sent(self) -> int:
        """How many of the members were sent out."""
        return len(self.members) - self.unsent

    def leave_out(self, index: int) -> None:
        """Record a member that is not sent out."""
        self.record(index, Member(index, "missing", None, "not sampled"), None)
        self.unsent += 1

    def record(self, index: int, member: Member[Any], item: Item | None) -> None:
        self.members[index] = member
        self.ended += 1
        self.arrived += member.state == "arrived"
        self.failed += member.state == "failed"
        if item is not None:
            self.items.append(item)


@attrs.define(eq=False)
class GroupState:
    """The ``size`` members scattered from ``origin`` over one edge, ``sent`` of which are sent out.

    ``alive`` counts, by gather and member, the items that may still bring it there; a member with none left that never
    arrived is missing or failed.  ``waiting`` counts the members that no worker has taken up.
    """

    id: int
    edge: str
    origin: Item
    scattered_at: float
    size: int
    alive: dict[str, list[int]]
    reasons: dict[int, str]
    gathers: dict[str, GatherState]
    identities: tuple[Any, ...] = ()
    strata: tuple[int, ...] = ()
    waiting: int = 0
    sent: int = 0
    nested: list[int] = attrs.field(factory=list)
    """Groups scattered from what carries this one."""
    void: bool = False
    """Set when a member was cancelled by the budget or a stop: the group then says nothing and goes nowhere."""

    def gathered(self, state: GatherState, amendment: bool) -> Group[Any, Any]:
        return Group(self.origin.value, tuple(state.members), amendment, self.strata)
