"""Reference model of an edge's queue: a list that is sorted at each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from flashgraph.policies.order import QueueOrder, freshest, priority
from flashgraph.run.items import Item
from flashgraph.run.queues import EdgeQueue
from tests.proof.tried import Property, expect

__all__ = ["QUEUES"]

ORDERS: Mapping[str, tuple[QueueOrder, Callable[[Item], Any]]] = {
    "fifo": (QueueOrder(), lambda item: 0),
    "freshest": (freshest(), lambda item: -item.version),
    "priority": (priority(lambda value: value % 5), lambda item: item.value % 5),
}


def _item(number: int, value: int, version: int, late: bool) -> Item:
    return Item(number, value, "edge", 0, (), (), {"pool": version}, (), frozenset(), {}, f"{number}", late=late)


def sorts(order: str, capacity: int, history: Sequence[tuple[str, int, int, bool]]) -> None:
    """I2: a queue counts its items and those under repair, and returns them in order.

    The order is the declared one, with late members last, and the oldest first among equals.
    """
    policy, key = ORDERS[order]
    queue, inside, held, opened = EdgeQueue(capacity, policy), list[Item](), 0, 0
    before: tuple[int, Item | None] = (queue.changes, None)
    for number, (what, which, version, late) in enumerate(history):
        chosen = inside[which % len(inside)] if inside else None
        match what:
            case "push":
                inside.append(_item(number, which, version, late))
                queue.push(inside[-1])
            case "pop" if inside:
                first = _first(inside, key)
                taken = queue.pop()
                expect(taken is first, f"I2: item {taken.id} leaves first, expected {first.id}")
                inside.remove(first)
            case "remove" if chosen is not None:
                queue.remove(chosen)
                inside.remove(chosen)
            case "demote" if chosen is not None and not chosen.late:
                chosen.late = True
                queue.demote(chosen)
            case "hold":
                held += 1
                queue.held += 1
            case "open":
                opened += 1
                queue.opened += 1
        at = f"after {what} of {history}"
        # In the scheduler's sequence: before `head`, which removes ended items.
        count = len(inside) + held + opened
        expect(queue.waiting == len(inside), f"I2: {queue.waiting} items wait, expected {len(inside)} {at}")
        expect(len(queue) == count, f"I2: {len(queue)} items are in it, expected {count} {at}")
        expect(queue.full == (count >= capacity), f"I2: with {count} of {capacity} it is full, or not {at}")
        if which % 2:
            head = queue.head()
            expect(head is (_first(inside, key) if inside else None), f"I2: {head} is the head {at}")
            if head is not before[1]:
                expect(queue.changes != before[0], f"I9: another item is the head, but changes stays the same {at}")
            before = (queue.changes, head)
    while inside:
        first = _first(inside, key)
        expect(queue.pop() is first, f"I2: the rest of {history} leaves in another order")
        inside.remove(first)
    expect(queue.head() is None, f"I2: after all of {history} has left, something is there")


def refuses(order: Literal["raises", "does not compare"], history: Sequence[tuple[str, int, bool]]) -> None:
    """I2, I15: an item whose order function raises, or whose key does not compare, is not put in the queue.

    The queue is unchanged.  All items in it leave, late members last.
    """
    policy = priority(lambda value: 1 // value if order == "raises" else value or "none")
    queue, inside = EdgeQueue(9, policy), list[Item]()
    for number, (what, value, late) in enumerate(history):
        chosen = inside[value % len(inside)] if inside else None
        if what == "pop" and inside:
            inside.remove(queue.pop())
        elif what == "demote" and chosen is not None and not chosen.late:
            chosen.late = True
            queue.demote(chosen)
        elif what == "push":
            item = _item(number, value, 0, late)
            beside = {not other.value for other in inside if other.late == late}
            sound = bool(value) if order == "raises" else beside <= {not value}
            try:
                queue.push(item)
            except (ZeroDivisionError, TypeError):
                expect(not sound, f"I15: {value} was refused after {history[:number]}")
            else:
                # It may be compared with any of the items that have become late.
                expect(sound or len(beside) > 1, f"I15: {value} was not refused after {history[:number]}")
                inside.append(item)
        head = queue.head()
        expect((head is None) == (not inside), f"I2: its head is {head}, it has {inside}")
        expect(len(queue) == queue.waiting == len(inside), f"I2: {len(queue)} items are in it, not {len(inside)}")
    left = [queue.pop() for _ in inside]
    expect(set(map(id, left)) == set(map(id, inside)), f"I1: of {inside} it gave {left}")
    expect([i.late for i in left] == sorted(i.late for i in left), f"I2: {left} left it in another order")


def _first(inside: Sequence[Item], key: Callable[[Item], Any]) -> Item:
    rest = [item for item in inside if not item.late] or inside
    least = min(key(item) for item in rest)
    return next(item for item in sorted(rest, key=lambda item: item.id) if key(item) == least)


QUEUES: Mapping[str, Property] = {
    "model of queues": Property(
        ("I2", "I9"),
        sorts,
        {
            "order": st.sampled_from(sorted(ORDERS)),
            "capacity": st.integers(1, 4),
            "history": st.lists(
                st.tuples(
                    st.sampled_from(["push", "push", "push", "push", "pop", "remove", "demote", "hold", "open"]),
                    st.integers(0, 9),
                    st.integers(0, 3),
                    st.booleans(),
                ),
                min_size=1,
                max_size=16,
            ),
        },
        20,
    ),
    "orders that raise": Property(
        ("I2", "I15"),
        refuses,
        {
            "order": st.sampled_from(["raises", "does not compare"]),
            "history": st.lists(
                st.tuples(st.sampled_from(["push", "push", "push", "pop", "demote"]), st.integers(0, 3), st.booleans()),
                min_size=1,
                max_size=12,
            ),
        },
        10,
    ),
}
