"""Digests of values and functions: the same in another process, and different for any relevant difference."""

from __future__ import annotations

import enum
import importlib.util
import math
import subprocess
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flashgraph.run.journal.digests import digest, function_digest

DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.frozensets(st.integers() | st.text(max_size=2), max_size=3)
    ),
    max_leaves=8,
)


class Kind(enum.Enum):
    EASY = 1
    HARD = 2


@attrs.frozen
class Row:
    text: str
    tags: frozenset[str] = frozenset()


@dataclass
class Case:
    rows: list[Any]


class Pair(NamedTuple):
    one: Any
    two: Any


class Plain:
    """An object whose repr contains its address."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Locked:
    """An object that cannot be copied, and whose repr contains its address."""

    def __reduce_ex__(self, version: Any) -> Any:
        raise TypeError("cannot pickle this")


def ring(value: Any) -> list[Any]:
    found: list[Any] = [value]
    found.append(found)
    return found


VALUES: list[Callable[[], Any]] = [
    lambda: {"question": "a", "answer": 1},
    lambda: {"question": "a", "answer": 2},
    lambda: OrderedDict(question="a"),
    lambda: Row("x", frozenset("abcdefgh")),
    lambda: Row("y", frozenset("abcdefgh")),
    lambda: Case([Row("x"), Kind.EASY]),
    lambda: Case([Row("x"), Kind.HARD]),
    lambda: Pair(1, [2]),
    lambda: Pair(1, (2,)),
    lambda: Plain(text="x", words={"a", "b", "c"}),
    lambda: Plain(text="y", words={"a", "b", "c"}),
    lambda: Slotted("x"),
    lambda: Slotted("y"),
    lambda: array("d", [1.5, 2.5]),
    lambda: array("d", [1.5, 2.0]),
    lambda: date(2026, 1, 1),
    lambda: date(2026, 1, 2),
    lambda: Decimal("1.0"),
    lambda: Path("a/b"),
    lambda: Path("a/c"),
    lambda: ring(1),
    lambda: ring(2),
    lambda: math.nan,
    lambda: math.inf,
    lambda: 1,
    lambda: 1.0,
    lambda: True,
    lambda: "1",
    lambda: b"1",
    Locked,
    lambda: ["ab", "c"],
    lambda: ["a", "bc"],
    lambda: "half a character \ud800",
]


def test_values_are_told_apart() -> None:
    """Values that differ in a type, or in where texts are split, have different digests."""
    found = [digest(make()) for make in VALUES]
    assert found == [digest(make()) for make in VALUES], "a value made twice has one digest"
    assert len(set(found)) == len(found)


def test_another_process_has_the_same() -> None:
    """Another process, with other hashes, set orders and addresses, computes the same digests."""
    code = "from tests.journal.test_digests import *; print([digest(make()) for make in VALUES])"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert found.stdout == f"{[digest(make()) for make in VALUES]}\n", found.stderr


@given(DATA, DATA)
def test_equal_digests_are_equal_values(one: Any, other: Any) -> None:
    assume(repr(one) != repr(other))
    assert digest(one) != digest(other)


# ---- functions -------------------------------------------------------------------------------------------

BEFORE = """
import functools
import helper
LEVEL = 0.5
WORDS = {}
def close(one, other): return abs(one - other) < LEVEL
def far(one, other): return not close(one, other)
class Judge:
    def __init__(self, level): self.level = level
    def __call__(self, sample, output): return self.rate(output)
    def rate(self, output): return len(output) * self.level
def build(level):
    def score(sample, output): return level * len(output)
    return score
def loud(function):
    @functools.wraps(function)
    def wrapper(*words): return function(*words)
    return wrapper
def score(sample, output, weight=1.0):
    return weight if close(sample, output) else helper.zero(output)
@loud
def wrapped(sample, output): return score(sample, output)
built = build(0.5)
bound = functools.partial(score, weight=2.0)
judge = Judge(0.5)
method = judge.rate
cached = functools.cache(score)
short = lambda sample, output: WORDS.setdefault(output, 0.0)
"""
HELPER = """
def zero(output): return nothing() if output else -1
def nothing(): return 0
"""

CHANGES: list[tuple[str, str, str]] = [
    ("score", "weight if close", "-weight if close"),
    ("score", "abs(one - other)", "(one - other)"),
    ("score", "LEVEL = 0.5", "LEVEL = 0.6"),
    ("score", "weight=1.0", "weight=1.1"),
    ("score", "def nothing(): return 0", "def nothing(): return 1"),
    ("wrapped", "abs(one - other)", "(one - other)"),
    ("wrapped", "return function(*words)", "return -function(*words)"),
    ("built", "build(0.5)", "build(0.6)"),
    ("bound", "weight=2.0", "weight=3.0"),
    ("bound", "LEVEL = 0.5", "LEVEL = 0.6"),
    ("judge", "Judge(0.5)", "Judge(0.6)"),
    ("judge", "len(output) * self", "2 * len(output) * self"),
    ("method", "Judge(0.5)", "Judge(0.6)"),
    ("method", "len(output) * self", "2 * len(output) * self"),
    ("cached", "LEVEL = 0.5", "LEVEL = 0.6"),
    ("short", "WORDS.setdefault(output, 0.0)", "WORDS.setdefault(output, 0.1)"),
    ("short", "WORDS = {}", "WORDS = {'a': 1.0}"),
]


def loaded(folder: Path, before: str = "", after: str = "") -> Any:
    """Load the module of `BEFORE` with a change."""
    sys.modules.pop("helper", None)
    folder.mkdir()
    (folder / "helper.py").write_text(HELPER.replace(before, after) if before else HELPER)
    (folder / "task.py").write_text(BEFORE.replace(before, after) if before else BEFORE)
    spec = importlib.util.spec_from_file_location("task", folder / "task.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("helper", None)
    return module


@pytest.mark.parametrize(("name", "before", "after"), CHANGES)
def test_a_function_that_does_something_else(name: str, before: str, after: str, tmp_path: Path) -> None:
    """A change of its source, or of a function, class or number of the user's that it uses, changes the digest."""
    one, same, other = loaded(tmp_path / "a"), loaded(tmp_path / "b"), loaded(tmp_path / "c", before, after)
    assert function_digest(getattr(one, name)) == function_digest(getattr(same, name))
    assert function_digest(getattr(one, name)) != function_digest(getattr(other, name))


def test_what_a_function_has_remembered_is_no_change(tmp_path: Path) -> None:
    """Filling a cache during a run does not change the digest."""
    module = loaded(tmp_path / "a")
    before = function_digest(module.short)
    module.short("sample", "x")
    assert function_digest(module.short) == before


# Sources that a score uses, in ``task.py`` and, after ===, in ``rub.py``; ? marks the value that changes.
USED: dict[str, str] = {
    "a closure's mapping": "def make(w):\n  def score(s, o): return w['a']\n  return score\nscore = make({'a': ?})",
    "a closure's list": "def make(w):\n  def score(s, o): return w[0]\n  return score\nscore = make([?])",
    "a closure's object": "class K:\n  def __init__(self, v): self.v = v\n"
    "def make(w):\n  def score(s, o): return w.v\n  return score\nscore = make(K(?))",
    "a number of another module": "from rub import W\ndef score(s, o): return W===W = ?",
    "a number in another module": "import rub\ndef score(s, o): return rub.W===W = ?",
    "a class in another module": "import rub\ndef score(s, o): return rub.K().v()===class K:\n  def v(self): return ?",
    "a base class": "from rub import B\nclass K(B): pass\ndef score(s, o): return K().v()==="
    "class B:\n  def v(s): return ?",
    "an import of its own": "def score(s, o):\n  from rub import v\n  return v()===def v(): return ?",
    "a number that was read": "W = float(DATA)\ndef score(s, o): return W",
    "a mapping that was read": "import json\nW = json.loads('{\"a\": %s}' % DATA)\ndef score(s, o): return W['a']",
    "a function in a mapping": "def f(o): return ?\nT = {'a': f}\ndef score(s, o): return T['a'](o)",
    "an object's class": "class K:\n  def v(self): return ?\nk = K()\ndef score(s, o): return k.v()",
    "an object's number": "V = ?\nclass K:\n  def __init__(self, v): self.x = v\n  def v(self): return self.x\nk = K(V)"
    "\ndef score(s, o): return k.v()",
    "an object of another module": "from rub import k\ndef score(s, o): return k.v()==="
    "class K:\n  def v(s): return ?\nk = K()",
    "a number by another name": "A = ?\nB = A\ndef score(s, o): return B",
    "a pattern": "import re\nP = '?'\nR = re.compile(P)\ndef score(s, o): return bool(R.match(o))",
    "an enum": "import enum\nclass E(enum.Enum):\n  A = ?\ndef score(s, o): return E.A.value",
    "a data class": "import dataclasses\n@dataclasses.dataclass\nclass E:\n  a: float = ?"
    "\ndef score(s, o): return E().a",
    "a class of attrs": "import attrs\n@attrs.frozen\nclass E:\n  a: float = ?\ndef score(s, o): return E().a",
    "a class's mapping": "class E:\n  a = {'x': ?}\n  def f(self): pass\ndef score(s, o): return E.a['x']",
    "a class's number": "class E:\n  a = ?\ndef score(s, o): return E.a",
}

# Values that change during a run: the digest is the same before and after a call, and in another copy.
FILLED: dict[str, str] = {
    "a mapping": "SEEN = {}\ndef score(s, o):\n  SEEN[o] = 1\n  return 1",
    "a mapping of lists": "SEEN = {'a': []}\ndef score(s, o):\n  SEEN['a'].append(o)\n  return 1",
    "a counter": "N = 0\ndef score(s, o):\n  global N\n  N += 1\n  return N",
    "a closure's counter": "def make():\n  n = 0\n  def score(s, o):\n    nonlocal n\n    n += 1\n    return n\n"
    "  return score\nscore = make()",
    "a closure's list": "def make(n):\n  def score(s, o):\n    n.append(o)\n    return 1"
    "\n  return score\nscore = make([])",
    "an object": "class K:\n  def __init__(self):\n    self.seen, self.last = [], None\n  def score(self, s, o):\n"
    "    self.seen.append(o)\n    self.last = o\n    return 1\nscore = K().score",
    "an object that is called": "class K:\n  def __init__(self): self.n = 0\n  def __call__(self, s, o):\n"
    "    self.n += 1\n    return 1\nscore = K()",
    "a lock and a stream": "import threading, random\nL, R = threading.Lock(), random.Random(1)\n"
    "def score(s, o):\n  with L: return R.random()",
    "a module's cache": "import rub\ndef score(s, o): return rub.SEEN.setdefault(o, 1)===SEEN = {}",
    "what a function takes": "from rub import SEEN, note\ndef score(s, o):\n  note(SEEN, o)\n  return 1"
    "===SEEN = []\ndef note(seen, o): seen.append(o)",
}


def scorer(folder: Path, text: str, value: str = "0.5") -> Any:
    """Load the function ``score`` of a task's file, which may use a module ``rub``."""
    folder.mkdir()
    task, _, rub = text.replace("?", value).partition("===")
    (folder / "rub.py").write_text(rub)
    (folder / "task.py").write_text(task)
    name, names = f"task_{folder.name}", {"DATA": value}
    spec = importlib.util.spec_from_file_location(name, folder / "task.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        spec.loader.exec_module(module)
        return module.score
    finally:
        sys.path.remove(str(folder))


def named(folder: Path, text: str, value: str = "0.5", calls: int = 0) -> str:
    """Return the digest of `scorer` after ``calls`` calls."""
    try:
        score = scorer(folder, text, value)
        for number in range(calls):
            score("sample", f"output {number}")
        return function_digest(score)
    finally:
        for name in ("rub", f"task_{folder.name}"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("case", USED)
def test_what_a_score_uses_counts(case: str, tmp_path: Path) -> None:
    """The user's values, classes and modules count wherever they are, or scores by different rules would be mixed."""
    text = USED[case]
    one, same = named(tmp_path / "a", text), named(tmp_path / "b", text)
    assert one == same != named(tmp_path / "c", text, "0.7")


@pytest.mark.parametrize("case", FILLED)
def test_what_fills_while_a_run_goes_on_does_not_count(case: str, tmp_path: Path) -> None:
    text = FILLED[case]
    assert named(tmp_path / "a", text) == named(tmp_path / "b", text, calls=2)


def test_what_it_does_not_use_is_no_change(tmp_path: Path) -> None:
    one, other = loaded(tmp_path / "a"), loaded(tmp_path / "b", "return not close", "return close")
    assert function_digest(one.score) == function_digest(other.score)


def test_functions_without_a_text() -> None:
    """Functions made by exec are compared by their code, built-in ones by their names."""
    made: dict[str, Any] = {}
    exec("def score(s, o): return 1\ndef same(s, o): return 1\ndef other(s, o): return 2", made)
    made["same"].__qualname__ = made["other"].__qualname__ = "score"
    assert function_digest(made["score"]) == function_digest(made["same"]) != function_digest(made["other"])
    assert function_digest(len) != function_digest(max)
    assert function_digest(partial(max, 1)) != function_digest(partial(max, 2))
