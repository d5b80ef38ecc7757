"""Reading answers out of replies: tables of replies and answers."""

from __future__ import annotations

import json

import pytest

from flashgraph.tasks.metrics import final_answer, json_object, last_number


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("plain", "plain"),
        ("  `plain`\n", "plain"),
        ("**plain**", "plain"),
        ("", ""),
        ('{"final_answer": "x", "answer": "y"}', "x"),
        ('{"reasoning": "{a}", "final_answer": 0.2}', "0.2"),
        ('{"answer": ["a", "b"]}', "a; b"),
        ('{"answer": true}', '{"answer": true}'),
        ('So:\n```json\n{"answer": "x"}\n```\nDone.', "x"),
        ('So {"answer": "x"} it is.', "x"),
        ('{"answer": "x"', '{"answer": "x"'),
        ("Hence \\boxed{041}, no, \\boxed{042}.", "042"),
        ("Work.\n**Final answer:** 7\nBecause.", "7"),
        ("Answer: 1\nNo.\nThe answer is: **2**", "2"),
        ("Answer:\n\nA\nB", "A\nB"),
        ("The answer lies below.\n```\nCCO\n```", "CCO"),
        ("<think>Answer: 1</think>\n2", "2"),
        ("no opening\n</think> 2", "2"),
    ],
)
def test_final_answer(reply: str, answer: str) -> None:
    """JSON precedes a box, a marked line, a fence and the whole text, in this order."""
    assert final_answer(reply, "; ") == answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.2", 0.2),
        ("$1,234.50", 1234.5),
        ("-$80,000,000.00", -8e7),
        ("$-5", -5.0),
        ("US$5", 5.0),
        ("\\$27,432.79", 27432.79),
        ("20%", 20.0),
        ("\N{MINUS SIGN}3.5", -3.5),
        ("x = 50,000 / 250,000 = **0.20**.", 0.2),
        ("0.20 (20%)", 0.2),
        ("(0.02)", 0.02),
        ("5-3", 3.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1e999", None),
        ("about 3.", 3.0),
        ("v1.2", None),
        ("2+2", 2.0),
        ("none", None),
        ("", None),
        ("__import__('os')", None),
    ],
)
def test_last_number(text: str, number: float | None) -> None:
    """Currencies, percent signs and thousands separators are not part of a number, and nothing is computed."""
    assert last_number(text) == number


def test_json_objects_only() -> None:
    """A list or a number is no object, and neither is JSON that is nested too deeply."""
    assert json_object("[1]") is None
    assert json_object("3") is None
    assert json_object("[" * 100_000) is None
    assert json_object('{"a":' * 100_000) is None
    assert json_object('{"a": ' + "9" * 10_000 + "}") is None
    assert json_object(json.dumps({"a": {"b": 1}})) == {"a": {"b": 1}}
