"""The queue of an edge: its order, late members, and held and opened places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run.items import Item
from flashgraph.run.queues import EdgeQueue


def item(number: int, version: int = 0, value: object = None, late: bool = False) -> Item:
    return Item(number, value, "a->b", 0, (), (), {"pool": version}, (), frozenset(), {}, "", late)


def drained(queue: EdgeQueue) -> list[int]:
    out = []
    while queue.head() is not None:
        out.append(queue.pop().id)
    return out


def test_orders() -> None:
    """Orders: fifo by age, freshest by version, priority by key; ties by age."""
    for order, expected in ((fg.fifo(), [0, 1, 2]), (fg.freshest(), [1, 2, 0]), (fg.priority(lambda v: -v), [2, 1, 0])):
        queue = EdgeQueue(9, order)
        for number, version in enumerate((1, 5, 3)):
            queue.push(item(number, version, value=number))
        assert drained(queue) == expected


def test_late_items_go_last_and_removed_ones_not_at_all() -> None:
    """A demoted item waits behind the others; a removed one leaves from any place."""
    queue = EdgeQueue(9, fg.fifo())
    items = [item(n) for n in range(4)]
    for one in items:
        queue.push(one)
    items[0].late = True
    queue.demote(items[0])
    queue.remove(items[2])
    assert len(queue) == 3
    assert drained(queue) == [1, 3, 0]


@given(st.lists(st.one_of(st.integers(0, 9), st.text("ab", max_size=1)), max_size=8))
def test_keys_that_do_not_compare(keys: list[int | str]) -> None:
    """An item with an incomparable key is refused, and the queue is unchanged."""
    queue = EdgeQueue(99, fg.priority(lambda value: value))
    held: list[Item] = []
    for number, key in enumerate(keys):
        one = item(number, value=key)
        try:
            queue.push(one)
        except TypeError:
            assert {type(other.value) for other in held} == {str, int} - {type(key)}
        else:
            held.append(one)
        assert len(queue) == len(held)
    assert len({type(one.value) for one in held}) <= 1
    assert drained(queue) == [one.id for one in sorted(held, key=lambda one: (one.value, one.id))]


@given(st.lists(st.sampled_from(["push", "pop", "remove", "hold", "open"]), max_size=60), st.integers(1, 5))
def test_length_counts_every_place_that_is_taken(actions: list[str], capacity: int) -> None:
    """I2: queued, held and opened items all take a place."""
    queue = EdgeQueue(capacity, fg.fifo())
    inside: list[Item] = []
    for number, action in enumerate(actions):
        if action == "push" and not queue.full:
            inside.append(item(number))
            queue.push(inside[-1])
        elif action == "pop" and inside:
            assert queue.pop() is inside.pop(0)
        elif action == "remove" and inside:
            queue.remove(inside.pop())
        elif action == "hold" and inside:
            queue.pop()
            inside.pop(0)
            queue.held += 1
        elif action == "open" and inside:
            queue.pop()
            inside.pop(0)
            queue.opened += 1
        assert len(queue) == len(inside) + queue.held + queue.opened <= capacity
        assert queue.full == (len(queue) == capacity)
        assert queue.waiting == len(inside)


def test_whatever_may_change_the_head_is_counted() -> None:
    """Every operation that may change the head raises the count; reading changes nothing."""
    queue = EdgeQueue(9, fg.fifo())
    items = [item(n) for n in range(4)]
    for one in items:
        before = queue.changes
        queue.push(one)
        assert queue.changes > before
    for act in (queue.remove, queue.demote, lambda one: queue.pop()):
        before = queue.changes
        assert queue.head() is not None
        assert queue.changes == before
        items[0].late = True
        act(items.pop(0))
        assert queue.changes > before


def test_a_key_that_does_not_compare_leaves_the_queue_as_it_was() -> None:
    """An item whose key does not compare is refused, and the others keep their order."""
    queue = EdgeQueue(9, fg.priority(lambda value: value))
    for number, value in enumerate((5, 1, 4, 2, 3)):
        queue.push(item(number, value=value))
    with pytest.raises(TypeError):
        queue.push(item(9, value="six"))
    assert len(queue) == 5
    assert drained(queue) == [1, 3, 4, 2, 0]
