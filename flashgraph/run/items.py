"""Items, and the groups and rounds that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from flashgraph.graph.ports import Group, Member
from flashgraph.run.claims import Claim

__all__ = ["GatherState", "GroupState", "Item", "Origin", "RoundState"]

Lineage = frozenset[tuple[str, int]]


@attrs.define(eq=False)
class Item:
    """A value on an edge, in its envelope.

    ``scope`` is the stack of groups that the item is a member of, as (group, index).  ``stamps`` are the pool versions
    that it was made from.  ``uses`` are its parent artifacts, and ``lineage`` adds all their ancestors.  ``late`` says
    that its group was released without it.  Only a repair replaces value and stamps.  ``path`` names the way from its
    round's emission to it, the same in every replay.
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
    """For a gathered group: its state at the edge that released it."""
    amends: bool = False
    """Whether this is the amendment of a gathered group."""
    claim: Claim | None = None
    """Its own claim, or an ancestor's, on a distinct value of an edge that takes equal values once."""

    @property
    def version(self) -> int:
        return max(self.stamps.values(), default=0)


@attrs.define
class Origin:
    """The part of an item that it inherits from the job or the released group that makes it."""

    round: int
    parents: tuple[int, ...] = ()
    scope: tuple[tuple[int, int], ...] = ()
    stamps: Mapping[str, int] = attrs.field(factory=dict)
    uses: tuple[tuple[str, int], ...] = ()
    lineage: Lineage = frozenset()
    loops: Mapping[str, int] = attrs.field(factory=dict)
    path: str = ""
    late: bool = False
    claim: Claim | None = None


@attrs.define(eq=False)
class RoundState:
    """A round: ``open`` counts its items that are not late, which hold its place in the source's window.

    ``item`` is what its source emitted.  ``oldest`` are the first versions that it has read, by pool.
    """

    id: int
    source: str
    item: Any
    open: int = 0
    late: int = 0
    failed: bool = False
    oldest: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class GatherState:
    """The members of a group at one gathering edge."""

    edge: str
    members: list[Member[Any]]
    items: list[Item] = attrs.field(factory=list)
    arrived: int = 0
    ended: int = 0
    failed: int = 0
    unsent: int = 0
    """Members that were not sampled, and are not tried."""
    released: bool = False
    amended: bool = False
    closed: bool = False
    """Whether it takes no more members: the rest is not awaited, or its artifact was retracted."""
    artifact: tuple[str, int] | None = None
    """The artifact that a pool admitted when the group was released early."""

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
    """The ``size`` members scattered from ``origin`` over one edge; ``sent`` counts those that are sent out.

    ``alive`` counts, by gather and member, the items that may still bring the member there.  A member without any that
    never arrived is missing or failed.  ``waiting`` counts the members that no worker has taken up.
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
    inside: dict[int, Item] = attrs.field(factory=dict)
    """By number, its open items."""
    nested: list[int] = attrs.field(factory=list)
    """Groups that were scattered from items of this one."""
    void: bool = False
    """Whether it is never released: a member was retracted, or an outer group failed or was released without it."""

    def gathered(self, state: GatherState, amendment: bool) -> Group[Any, Any]:
        return Group(self.origin.value, tuple(state.members), amendment, self.strata)
