"""Types of ports: which fit where, how they are shown, which can be stored."""

from __future__ import annotations

import collections
import dataclasses
import enum
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

import flashgraph as fg
from flashgraph.graph.types import assignable, members_of, show, show_apart, unstorable

T = TypeVar("T")


class Base:
    pass


class Child(Base):
    pass


@attrs.frozen
class Box(Generic[T]):
    content: T


@attrs.frozen
class IntBox(Box[int]):
    pass


class HasName(Protocol):
    name: str


class Row(TypedDict):
    name: str
    size: int


class Point(NamedTuple):
    x: float
    y: float


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Plain:
    path: tuple[int, ...]
    colour: Colour | None = None


@dataclasses.dataclass(frozen=True)
class Holder:
    inside: dict[str, threading.Event]


class WithFile(NamedTuple):
    file: Path


UserId = NewType("UserId", int)
Scores = TypeAliasType("Scores", dict[str, float])

FITS: list[tuple[Any, Any]] = [
    (int, int),
    (Child, Base),
    (bool, int),
    (int, float),
    (int, float | None),
    (int, int | str),
    (int | str, str | int | bytes),
    (None, int | None),
    (Any, int),
    (int, Any),
    (T, int),
    (list[int], list[int]),
    (list[Child], Sequence[Base]),
    (dict[str, int], Mapping[str, float]),
    (list[int], list),
    (list, list[int]),
    (tuple[int, str], tuple[int, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], Sequence[int]),
    (tuple[Child, Base], Sequence[Base]),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a"], str),
    (UserId, int),
    (Row, dict),
    (Box[int], Box[int]),
    (Box[int], Box),
    (Box, Box[int]),
    (IntBox, Box[int]),
    (Scores, dict[str, float]),
    (fg.Group[Child, int], fg.Group[Base, float]),
    (fg.Group[Base, int], fg.Group[Base | str, int | None]),
    (fg.Group[Base, fg.Group[Base, int]], fg.Group[Any, Any]),
    (Base, HasName),
]

CLASHES: list[tuple[Any, Any]] = [
    (str, int),
    (Base, Child),
    (float, int),
    (int | str, int),
    (int | None, int),
    (object, int),
    (list[int], list[str]),
    (list[int], Sequence[str]),
    (dict[str, int], Mapping[int, int]),
    (tuple[int, str], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, str], tuple[int, str, int]),
    (tuple[int, str], Sequence[int]),
    (Literal["a", "c"], Literal["a", "b"]),
    (int, UserId),
    (IntBox, Box[str]),
    (Box[int], Box[str]),
    (fg.Group[Base, int], fg.Group[Child, int]),
    (fg.Group[Base, int], fg.Group[Base, str]),
    (fg.Group[Base, int], int),
    (fg.Stale[int], fg.Verdict[int]),
]


@pytest.mark.parametrize(("produced", "consumed"), FITS, ids=repr)
def test_assignable(produced: Any, consumed: Any) -> None:
    """Subclasses, unions, Any, promotion of numbers, aliases, and generics part by part."""
    assert assignable(produced, consumed)


@pytest.mark.parametrize(("produced", "consumed"), CLASHES, ids=repr)
def test_not_assignable(produced: Any, consumed: Any) -> None:
    """A type that the consumer does not expect is refused."""
    assert not assignable(produced, consumed)


HINTS = st.recursive(
    st.sampled_from([int, str, bool, float, Plain, IntBox, None, Row, Colour]),
    lambda inner: st.one_of(
        inner.map(lambda h: list[h]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda p: tuple[p[0], p[1]]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda p: fg.Group[p[0], p[1]]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda p: p[0] if p[0] is None else p[0] | p[1]),
    ),
    max_leaves=6,
)


@given(HINTS)
def test_every_type_fits_itself_and_any_union_with_it(hint: Any) -> None:
    """Assignability is reflexive, and a wider consumer accepts every type that it accepted before."""
    assert assignable(hint, hint)
    assert assignable(hint, Any)
    if hint is not None:
        assert assignable(hint, hint | bytes)
        assert assignable(list[hint], Sequence[hint | bytes])


@given(HINTS)
def test_generated_types_are_shown_and_storable(hint: Any) -> None:
    """A shown type has no module and no address; plain parts in containers are storable."""
    assert "flashgraph." not in show(hint)
    assert "<" not in show(hint)
    assert unstorable(hint) is None
    assert unstorable(list[hint] if hint is not None else list[int]) is None


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (None, "None"),
        (int | None, "int | None"),
        (list[Base], "list[Base]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (fg.Group[Base, int | str], "Group[Base, int | str]"),
        (Literal["a", 3], "Literal['a', 3]"),
        (Any, "Any"),
        (UserId, "UserId"),
        (collections.abc.Callable[[int, str], None], "Callable[[int, str], None]"),
    ],
)
def test_show(hint: Any, text: str) -> None:
    """A type is shown as its annotation is written."""
    assert show(hint) == text


def test_show_apart_names_modules_only_where_types_look_alike() -> None:
    """Two classes of one name are shown with their modules."""
    twin = type("Base", (), {"__module__": "elsewhere"})
    assert show_apart(Base, twin) == (f"{__name__}.Base", "elsewhere.Base")
    assert show_apart(Base, Child) == ("Base", "Child")


def test_members_of() -> None:
    """A union has its members; any other type is its own member."""
    assert members_of(int | None) == (int, type(None))
    assert members_of(list[int]) == (list[int],)


@pytest.mark.parametrize(
    "hint",
    [
        int, None, bytes, Any, Literal["a"], list[int], dict[str, tuple[float, ...]], Mapping[str, Sequence[int]],
        Plain, Point, Row, Colour, UserId, Scores, Box[int], IntBox, fg.Group[Plain, Row], frozenset[str],
    ],
    ids=repr,
)  # fmt: skip
def test_storable(hint: Any) -> None:
    """Plain values, classes of them, and containers of both are storable."""
    assert unstorable(hint) is None


@pytest.mark.parametrize(
    ("hint", "part"),
    [
        (threading.Event, threading.Event),
        (object, object),
        (list[Path], Path),
        (Holder, threading.Event),
        (WithFile, Path),
        (Box[Path], Path),
        (fg.Group[int, Path], Path),
        (int | Path, Path),
        (Base, Base),
    ],
)
def test_unstorable_names_the_part(hint: Any, part: Any) -> None:
    """The part that cannot be stored is found in fields, arguments and unions."""
    assert unstorable(hint) is part


def test_a_recursive_type_ends() -> None:
    """A class that refers to itself is visited once."""
    assert unstorable(Tree) is None


@attrs.frozen
class Tree:
    children: list[Tree]
