"""Values of a graph's types as JSON and back: generated ones, and classes that a journal refuses."""

from __future__ import annotations

import enum
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.graph.check import check
from flashgraph.graph.loading import load_graph
from flashgraph.graph.ports import Group, Member, Several
from flashgraph.parts import Archive
from flashgraph.run.journal.codec import LONG, Codec
from flashgraph.run.journal.jsontext import TAG, dumped, loaded
from flashgraph.run.journal.plain import plain


class Color(enum.Enum):
    RED = "red"
    BLUE = ("b", 1)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    left: Any
    right: Color = Color.RED


@dataclass(frozen=True)
class Point:
    x: float
    tags: frozenset[str] = frozenset()


@attrs.frozen
class Leaf:
    text: str
    _hidden: int = 0
    length: int = attrs.field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.text))


@attrs.frozen
class Bud(Leaf):
    """A subclass that no port names."""

    point: Point = Point(0.0)


@attrs.frozen
class Tree:
    """A class with a field ``of``, which is also a word of the codec."""

    of: Any
    leaf: Leaf
    children: tuple[Tree, ...] = ()
    marks: Mapping[Color, Sequence[Pair]] = attrs.field(factory=dict)
    levels: Mapping[Level, Word] = attrs.field(factory=dict)
    rights: Right | None = None


def codec_of(*kinds: Any) -> Codec:
    """Return the codec of a graph whose items have these types."""
    graph = fg.Graph("types")
    pool = graph.pool("pool", Archive)
    for number, kind in enumerate(kinds):

        def source(at: Any) -> Any: ...

        source.__annotations__ = {"at": fg.Draw[None], "return": kind}
        graph.edge(graph.source(name=f"s{number}", rounds=1)(source), pool)
    return Codec.of_graph(check(graph))


CODEC = codec_of(Tree, Group[Tree, Leaf], Bud)

TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)
LONG_TEXTS = st.text(st.characters(exclude_categories=[]), min_size=LONG, max_size=LONG + 5)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    TEXTS,
    LONG_TEXTS,
    st.binary(max_size=40),
    st.sampled_from([*Color, *Level, *Word, Right.READ, Right.READ | Right.WRITE, Right(0)]),
)
LEAVES = st.one_of(
    st.builds(Leaf, TEXTS, st.integers()),
    st.builds(Bud, TEXTS, point=st.builds(Point, st.floats(allow_nan=False), st.frozensets(TEXTS, max_size=3))),
)
HASHABLE = st.recursive(
    st.one_of(PLAIN, LEAVES),
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.builds(Pair, inner, st.sampled_from(Color)), st.frozensets(inner, max_size=3)
    ),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TEXTS, inner, max_size=3),
        st.dictionaries(st.sampled_from([TAG, "of", "is", ""]), inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
        st.builds(Tree, inner, LEAVES),
        st.builds(Pair, inner),
        st.builds(Group, inner, st.lists(st.builds(Member, st.integers(0, 9), value=inner), max_size=3).map(tuple)),
        st.builds(Several, st.lists(inner, max_size=2)),
    ),
    max_leaves=12,
)
TREES = st.builds(
    Tree,
    VALUES,
    LEAVES,
    st.lists(st.builds(Tree, PLAIN, LEAVES), max_size=2).map(tuple),
    st.dictionaries(st.sampled_from(Color), st.lists(st.builds(Pair, PLAIN), max_size=2), max_size=2),
    st.dictionaries(st.sampled_from(Level), st.sampled_from(Word), max_size=2),
    st.sampled_from([None, Right.READ, Right.READ | Right.WRITE]),
)


def there_and_back(value: Any, codec: Codec = CODEC) -> tuple[Any, Any, dict[str, str]]:
    """Return a value after its way through JSON text, that JSON, and the texts that were stored apart."""
    aside: dict[str, str] = {}

    def put(text: str) -> str:
        aside[str(hash(text))] = text
        return str(hash(text))

    data = json.loads(json.dumps(codec.encode(value, put)))
    return codec.decode(data, aside.__getitem__), data, aside


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types throughout: ``1``, ``1.0`` and ``True`` differ."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, Mapping):
        found = {(type(k), k): v for k, v in other.items()}
        return all((type(k), k) in found and same(v, found[type(k), k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return all(map(same, one, other))
    if attrs.has(type(one)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in attrs.fields(type(one)))
    return True


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    """A value that may flow on an edge is decoded to an equal one of the same type."""
    found, data, aside = there_and_back(value)
    assert same(value, found)
    assert there_and_back(found)[1] == data
    assert all(len(text) >= LONG for text in aside.values())


@given(TREES)
def test_objects_come_back(tree: Tree) -> None:
    """Objects come back with private fields, fields that are not arguments, and subclasses that no annotation names."""
    found, _, _ = there_and_back(tree)
    assert same(tree, found)
    assert found.leaf.length == len(tree.leaf.text)
    assert type(found.leaf) is type(tree.leaf)


@pytest.mark.parametrize("number", [math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2])
def test_odd_numbers(number: float) -> None:
    """Infinities, the signed zero and the last bit survive."""
    found = there_and_back([number])[0][0]
    assert (found, math.copysign(1, found)) == (number, math.copysign(1, number))


def test_not_a_number() -> None:
    """NaN comes back as NaN."""
    assert math.isnan(there_and_back({"score": math.nan})[0]["score"])


def test_equal_sets_are_equal_json() -> None:
    """JSON does not depend on the order in which a set was filled."""
    words = [f"w{i}" for i in range(50)]
    assert there_and_back(frozenset(words))[1] == there_and_back(frozenset(reversed(words)))[1]


def test_a_long_text_is_kept_once() -> None:
    """A text that occurs several times is stored under one name."""
    text = "x" * LONG
    _, data, aside = there_and_back([text, (text, {"a": text}), Leaf(text)])
    assert list(aside.values()) == [text]
    assert text not in json.dumps(data)


class Loud(str):
    """A text that prints as another one."""

    def __str__(self) -> str:
        return self.upper()


class Row(list[int]):
    """A subclass of list."""


class Spot(tuple[int, ...]):
    """A subclass of tuple, without field names."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Loud("quiet"), "quiet"),
        (Loud("q" * LONG), "q" * LONG),
        (Row([1, 2]), [1, 2]),
        (Spot((1, 2)), (1, 2)),
        (Counter("aab"), {"a": 2, "b": 1}),
    ],
)
def test_a_subclass_of_a_plain_type_is_that_type(value: Any, expected: Any) -> None:
    """The content of such a value comes back; its class adds no data."""
    assert same(there_and_back({"deep": [value]})[0], {"deep": [expected]})


class Plain:
    """A class without fields."""


def test_what_cannot_come_back_is_refused() -> None:
    """A class that no port names, or a value that is not data, raises an error with the class and the fix."""

    @attrs.frozen
    class Stranger:
        x: int

    for value in (Stranger(1), Plain(), {"deep": [(Stranger(1),)]}, 1j, range(3), lambda: 1):
        with pytest.raises(DataError, match="cannot be stored with the run") as caught:
            there_and_back(value)
        assert "Fix: annotate the stage" in str(caught.value)


def test_a_pools_own_value_is_only_shown() -> None:
    """A pool's value may be of any class: readers see the fields of unknown classes, and the repr of one without
    fields."""

    @attrs.frozen
    class Board:
        best: Leaf
        of: Any

    data = CODEC.loose().encode([Board(Leaf("x"), Loud("quiet")), 1j, range(3)], str)
    assert plain(data, str) == [{"best": {"text": "x", "_hidden": 0}, "of": "quiet"}, "1j", "range(0, 3)"]


def test_a_class_that_the_graph_has_not() -> None:
    """Decoding a class that the graph lacks raises an error that names it, and creates nothing."""
    _, data, _ = there_and_back(Point(1.0))
    with pytest.raises(DataError, match="'Point', which is not a type of this graph"):
        codec_of(Inside).decode(data, str)


def test_classes_of_one_name_are_told_apart() -> None:
    """Two classes with the same qualified name are distinguished."""
    kinds = []
    for field in ("a", "b"):
        kind = attrs.make_class("Twin", [field], frozen=True)
        kinds.append(kind)
    codec = codec_of(*kinds)
    for kind in kinds:
        assert type(there_and_back(kind(1), codec)[0]) is kind


def test_a_class_may_be_named_as_a_tag() -> None:
    """A class with the name of one of the codec's tags is decoded as itself."""
    kind = attrs.make_class("tuple", ["of"], frozen=True)
    codec = codec_of(kind)
    assert there_and_back(kind([1, (2,)]), codec)[0] == kind([1, (2,)])


GRAPH_FILE = """
import attrs
import flashgraph as fg
from flashgraph.parts.evaluation import Candidate
from flashgraph.parts import Archive

@attrs.frozen
class Special(Candidate):
    more: int = 1

graph = fg.Graph("special")

@graph.source(rounds=1)
def draw(ctx: fg.Draw[None]) -> Candidate:
    return Special({"text": "x"}, 1)
"""


def test_a_file_that_was_loaded_twice(tmp_path: Path) -> None:
    """A file that was loaded twice, as in a notebook, gives the journal the names of a single load.

    Values come back as the graph's own classes, whichever of the two loads these are from.
    """
    (tmp_path / "special.py").write_text(GRAPH_FILE)
    loaded = [load_graph(tmp_path / "special.py") for _ in range(2)]
    names = []
    for graph in loaded:
        codec = Codec.of_graph(check(graph))
        made = graph.spec.sources[0].body(None)
        found, data, _ = there_and_back(made, codec)
        assert type(found) is type(made)
        names.append(data[TAG])
    assert names == ["Special", "Special"]


def test_a_subclass_that_was_made_later() -> None:
    """A stage may return a subclass that was defined after the graph was read."""

    @attrs.frozen
    class Late(Leaf):
        more: int = 0

    assert there_and_back(Late("x", 1, 2))[0] == Late("x", 1, 2)


def test_a_class_that_has_other_fields_now() -> None:
    """A stored field that the class no longer has is ignored; a missing required field is an error with a fix."""
    codec = Codec([Point])
    assert codec.decode({TAG: "Point", "x": 1.0, "color": "red"}, str) == Point(1.0)
    with pytest.raises(DataError) as caught:
        codec.decode({TAG: "Point", "y": 1.0}, str)
    assert "the journal holds a 'Point' of another version of its class, with the fields y; expected x, tags" in str(
        caught.value
    )
    assert "\nFix: resume with the graph and the version of flashgraph that the run" in str(caught.value)


@pytest.mark.parametrize("number", [10**5000, -(10**5000), 2**10_000, 2**9_999, -1, 2**64], ids=range(6))
def test_integers_of_any_size(number: int) -> None:
    """Integers with more digits than Python reads come back, also as keys."""
    value = {number: [number]}
    codec = Codec(())
    assert codec.decode(loaded(dumped(codec.encode(value, str))), str) == value


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize("make", [endless, deep])
def test_what_is_nested_too_deeply_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(DataError, match="nested too deeply, or holds itself"):
        Codec(()).encode(make(), str)


@attrs.frozen
class Inside:
    number: int = 0


@attrs.frozen
class Holder:
    inside: Inside = Inside()
    several: tuple[Inside, ...] = ()
    unknown: NoSuchName = None  # type: ignore[name-defined]  # noqa: F821


def test_the_classes_of_fields_are_known() -> None:
    """Also where annotations are texts, as in modules that import annotations from __future__."""
    texts: dict[str, str] = {}
    value = Holder(Inside(3), (Inside(4), Inside(5)))
    codec = Codec([Holder])
    data = json.loads(json.dumps(codec.encode(value, lambda text: texts.setdefault(text, text))))
    assert codec.decode(data, texts.__getitem__) == value
