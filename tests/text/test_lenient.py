"""JSON as models write it: what is read, what is refused instead of guessed, and no text is an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.text.lenient import objects


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{'a': 'b'}", {"a": "b"}),
        ("{'a': 'Don't panic, it's fine.'}", {"a": "Don't panic, it's fine."}),
        ("{'a': 'the users' data', 'b': 'x'}", {"a": "the users' data", "b": "x"}),
        ("{'a': 'Use the code 'Q7', then stop.', 'b': 'x'}", {"a": "Use the code 'Q7', then stop.", "b": "x"}),
        ("{'a': 'it\\'s', \"b\": \"it's\"}", {"a": "it's", "b": "it's"}),
        ("{'a': ['don't', 'x'], 'b': [{'c': 'd'}]}", {"a": ["don't", "x"], "b": [{"c": "d"}]}),
        ("{'a': True, 'b': False, 'c': None}", {"a": True, "b": False, "c": None}),
        ('{"a": "he said "x" and left", "b": "y"}', {"a": 'he said "x" and left', "b": "y"}),
        ('{"a": "the "final", answer", "b": "y"}', {"a": 'the "final", answer', "b": "y"}),
        ('{"a": "use {"x"} here"}', {"a": 'use {"x"} here'}),
        ('{"a": "1\n2, ] and , }", "b": ["c",],}', {"a": "1\n2, ] and , }", "b": ["c"]}),
        ('{"a": "x"\n "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": [{"b": "c"} {"b": "d"}]}', {"a": [{"b": "c"}, {"b": "d"}]}),
        ('{a: "b", c_d: 12.50, e: 007}', {"a": "b", "c_d": "12.50", "e": "007"}),
        ('{"a": ADD, "b": -1e5}', {"a": "ADD", "b": "-1e5"}),
        ("{\u201ca\u201d: \u201cb\u201d}", {"a": "b"}),
        (r'{"a": "\alpha, \u0041, \"so\", \u00x",}', {"a": '\\alpha, A, "so", \\u00x'}),
        ("{ }", {}),
        ("{'a': {}}", {"a": {}}),
    ],
)
def test_mistakes_that_are_read_over(text: str, found: dict[str, Any]) -> None:
    """Common mistakes are tolerated, alone, in a fence and in prose; numbers stay as written."""
    assert objects(text) == [found]
    assert objects(f"Here {{it}} is, don't worry:\n```json\n{text}\n```\nDone.") == [found]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "say "yes", "no" or", "b": "x"}',
        '{"a": "cut o',
        '{"a": "b"',
        '{"a": "b", "c',
        "{'a': 'b', 'c'}",
        "{'a': ['say 'x' now']}",
        '{"a": b c}',
        '{"a" "b"}',
        '{"a": "b\\',
        "{a}",
        "{'a': 'b'} # no".replace("}", ""),
    ],
)
def test_an_ambiguous_text_is_not_read(text: str) -> None:
    """An ambiguous text is refused, because nobody could tell that half is missing."""
    assert objects(text) == []


def test_complete_objects_of_a_truncated_reply_are_read() -> None:
    """Of a truncated reply, the outer object is lost, and the complete inner ones are read."""
    assert objects("{'a': [{'b': 'c'}, {\"b\": \"d\"}, {'b': 'e") == [{"b": "c"}, {"b": "d"}]


LEAVES = st.none() | st.booleans() | st.text(alphabet="ab \n:.#-", max_size=8)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3)
)
OBJECTS = st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES, max_size=4)


@given(OBJECTS)
def test_single_quotes_and_double_ones_read_the_same(value: dict[str, Any]) -> None:
    """Single and double quotes read the same: Python's form, JSON, and trailing commas."""
    text = json.dumps(value)
    assert objects(text) == objects(repr(value)) == [value]
    trailing = text.replace("]", ",]").replace("}", ",}").replace("[,]", "[]").replace("{,}", "{}")
    assert objects(trailing) == [value]


@given(st.dictionaries(st.text("abc", min_size=1), st.text(alphabet="ab'\" .,{}[]:\n\\", max_size=20), min_size=1))
def test_valid_json_is_read_as_json(value: dict[str, str]) -> None:
    """Valid JSON is read as JSON, whatever its strings hold."""
    assert objects(f"So: {json.dumps(value)}.") == [value]


@given(st.text(alphabet="{}[]'\",: \n\\ab1uN\u201c\u201d", max_size=200) | st.text())
def test_any_text_can_be_read(text: str) -> None:
    """No text is an error, and the result is flat enough to walk."""
    for found in objects(text):
        assert isinstance(found, dict)
        json.dumps(found)


@given(OBJECTS, st.data())
def test_a_character_lost_or_doubled_is_no_error(value: dict[str, Any], data: st.DataObject) -> None:
    """A lost or doubled character, anywhere in an object's text, is no error."""
    text = repr(value)
    at = data.draw(st.integers(0, len(text) - 1))
    objects(text[:at] + text[at + 1 :])
    objects(text[:at] + text[at] + text[at:])
