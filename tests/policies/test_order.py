"""Orders of queues and of the members of a scatter."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.policies.order import QueueOrder, discriminative, fifo, freshest, priority


@attrs.frozen
class Sample:
    passed: bool


def sorted_by(order: QueueOrder, items: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (value, version) pairs in the order in which a queue returns them: by key, ties by age."""
    return sorted(items, key=lambda item: order.key(*item))


ITEMS = [(3, 1), (1, 2), (2, 2), (9, 0)]


def test_queue_orders() -> None:
    """The oldest item, the newest version or the smallest key goes first; equal items go by age."""
    assert sorted_by(fifo(), ITEMS) == ITEMS
    assert sorted_by(freshest(), ITEMS) == [(1, 2), (2, 2), (3, 1), (9, 0)]
    assert sorted_by(priority(lambda value: -value), ITEMS) == [(9, 0), (3, 1), (2, 2), (1, 2)]


def test_members_that_passed_often_enough_go_last() -> None:
    """A streak of ``window`` is enough, one less is not; each part keeps the given order."""
    order = discriminative(window=3)
    assert order.arrange("abcde", {0: 3, 1: 2, 3: 7}) == [1, 2, 4, 0, 3]
    assert order.arrange("abc", {}) == [0, 1, 2]


def test_members_are_known_by_place_or_key() -> None:
    """With a key, a sample is recognized at any index."""
    assert discriminative().identity(2, "c") == 2
    order = discriminative(window=1, key=str.upper)
    assert order.identity(2, "c") == "C"
    assert order.arrange(["a", "b", "c"], {"A": 1, "B": 1}) == [2, 0, 1]


def test_passed_is_the_values_own_or_given() -> None:
    """By default the gathered value's ``passed`` decides."""
    assert discriminative().passed(Sample(True))
    assert not discriminative().passed(Sample(False))
    assert discriminative(passed=lambda value: value > 3).passed(4)


@given(st.integers(1, 5), st.lists(st.integers(0, 8), max_size=20))
def test_arranging_is_a_permutation(window: int, streaks: list[int]) -> None:
    """Each member is sent once, and none that passed goes before one that did not."""
    arranged = discriminative(window).arrange(streaks, dict(enumerate(streaks)))
    assert sorted(arranged) == list(range(len(streaks)))
    late = [streaks[i] >= window for i in arranged]
    assert late == sorted(late)


@pytest.mark.parametrize("order", [discriminative(0), discriminative(2.5), priority(None), priority("n")])  # type: ignore[arg-type]
def test_flaws(order: QueueOrder) -> None:
    """A window below 1 and a key that is no function are flaws."""
    assert order.flaw() is not None


@pytest.mark.parametrize("order", [fifo(), freshest(), priority(abs), discriminative(1)])
def test_right_orders_have_no_flaw(order: QueueOrder) -> None:
    """The boundary values have no flaw."""
    assert order.flaw() is None


def test_text() -> None:
    """The text of an order is how it is written."""
    assert list(map(str, [fifo(), freshest(), priority(abs), discriminative(4)])) == [
        "fifo", "freshest", "priority", "discriminative(4)",
    ]  # fmt: skip
