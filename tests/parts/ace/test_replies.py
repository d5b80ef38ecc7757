"""Any model reply is read as operations, tags or answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.parts.ace import Operation, Playbook, Tags, digest, parse_answer, parse_operations, parse_tags
from tests.parts.ace.kit import curated, started

BOOK = started()
UNIT, ROUND = "rule-00001", "rule-00002"
SEEN = BOOK.seen((UNIT, ROUND))
ADD = Operation.add("RULES", "Be kind.")
ADDED = '{"type": "ADD", "section": "RULES", "content": "Be kind."}'


def reply(*operations: Any) -> str:
    return json.dumps({"reasoning": "because", "operations": list(operations)})


@pytest.mark.parametrize(
    ("raw", "operation"),
    [
        ({"type": "ADD", "section": "RULES", "content": " Be kind.\n"}, ADD),
        ({"op": "add", "section": "RULES", "text": "Be kind."}, ADD),
        ({"type": "ADD", "content": "Be kind."}, Operation.add("", "Be kind.")),
        ({"type": "ADD", "section": "RULES", "content": ["a", 1.50, True]}, Operation.add("RULES", "a, 1.5, true")),
        ({"type": "UPDATE", "bullet_id": UNIT, "content": "New."}, Operation.update(UNIT, "New.", SEEN[0])),
        ({"type": "update", "id": f" [{UNIT}] ", "new_content": "New."}, Operation.update(UNIT, "New.", SEEN[0])),
        ({"type": "UPDATE", "bullet_ids": [UNIT], "content": "New."}, Operation.update(UNIT, "New.", SEEN[0])),
        ({"type": "REMOVE", "bullet_id": UNIT}, Operation.remove(UNIT, SEEN[0])),
        ({"type": "DELETE", "bullet_id": UNIT}, Operation.remove(UNIT, SEEN[0])),
        ({"type": "MERGE", "source_ids": [UNIT, ROUND], "content": "Both."},
         Operation.merge((UNIT, ROUND), "Both.", SEEN)),
        ({"type": "MERGE", "bullet_ids": f"{UNIT}, [{ROUND}]", "section": "codes", "content": "Both."},
         Operation.merge((UNIT, ROUND), "Both.", SEEN, "codes")),
        ({"type": "MERGE", "ids": [{"id": UNIT}, {"id": ROUND}], "content": "Both."},
         Operation.merge((UNIT, ROUND), "Both.", SEEN)),
    ],
)  # fmt: skip
def test_an_operation_is_read(raw: dict[str, Any], operation: Operation) -> None:
    """An operation is read with the digests of the texts that the curator saw, under any usual key."""
    assert parse_operations(reply(raw), BOOK) == (operation,)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("ADD this", "no JSON object"),
        ({"section": "RULES", "content": "Be kind."}, "type '' is none of ADD, UPDATE, MERGE, REMOVE, DELETE"),
        ({"type": "CREATE_META", "content": "x"}, "type 'CREATE_META' is none of ADD, UPDATE, MERGE, REMOVE, DELETE"),
        ({"type": "ADD", "section": "RULES"}, "ADD without content"),
        ({"type": "ADD", "section": "RULES", "content": " "}, "ADD without content"),
        ({"type": "UPDATE", "bullet_id": UNIT}, "UPDATE without content"),
        ({"type": "UPDATE", "content": "New."}, "UPDATE with 0 ids, expected one"),
        ({"type": "REMOVE", "bullet_ids": [UNIT, ROUND]}, "REMOVE with 2 ids, expected one"),
        ({"type": "REMOVE", "bullet_id": "rule-0001"}, "no bullet [rule-0001]: did you mean 'rule-00001'?"),
        ({"type": "MERGE", "source_ids": [UNIT, UNIT], "content": "x"}, "MERGE with 1 ids, expected two or more"),
    ],
)
def test_a_malformed_operation_is_refused_with_its_reason(raw: Any, why: str) -> None:
    """A malformed operation is refused with its reason, and the others of the reply stay."""
    refused, other = parse_operations(reply(raw, json.loads(ADDED)), BOOK)
    assert (refused.kind, refused.why, other) == ("REFUSED", why, ADD)
    assert refused.text == (raw if isinstance(raw, str) else json.dumps(raw))


@pytest.mark.parametrize(
    "text",
    [
        reply(json.loads(ADDED)),
        f"Sure, {{here}} it is:\n```json\n{reply(json.loads(ADDED))}\n```\nDoes [rule-00001] help?",
        f'{{"reasoning": "r", "operations": [{ADDED},],}}',
        f'{{"operations": {ADDED}}}',
        f"[{ADDED}]",
        ADDED,
        ADDED.replace('"}', '",}'),
        f'{{"reasoning": "it was cut off", "operations": [{ADDED}, {{"type": "ADD", "sec',
        f'{{"operations": []}} No, rather: {reply(json.loads(ADDED))}',
        f'<think>"quoted {{"a": 1}}</think>{{"operations": [{ADDED},]}}',
        repr({"operations": [json.loads(ADDED)], "reasoning": None}),
        f"{{'operations': [{json.loads(ADDED)!r},]}}",
        f"{{'reasoning': 'It's what the users' data say.', 'operations': [{ADDED}]}}",
        f'{{reasoning: "said "no" and left", operations: [{ADDED}]}}',
        f"````json\n{json.loads(ADDED)!r}\n````",
        f'{{"reasoning": "multi\nline, a , ] in it", "operations": [{ADDED},]}}',
    ],
)
def test_a_reply_is_read_despite_other_text(text: str) -> None:
    """A reply is read despite prose, fences, single quotes, trailing commas, bare lists or line breaks in strings.

    Of a truncated reply, the complete operations are read.
    """
    assert parse_operations(text, BOOK) == (ADD,)


def test_an_apostrophe_does_not_cut_a_text_short() -> None:
    """An apostrophe in a single-quoted string does not end the string."""
    reply = "{'operations': [{'type': 'ADD', 'section': 'RULES', 'content': 'Don't guess, it's wrong.'}]}"
    assert parse_operations(reply, BOOK) == (Operation.add("RULES", "Don't guess, it's wrong."),)


def test_two_hundred_operations_are_read() -> None:
    """Two hundred operations are read, and the rest is one refusal."""
    found = parse_operations(reply(*[json.loads(ADDED)] * 300), BOOK)
    assert (len(found), found[-1].kind, found[-1].why) == (201, "REFUSED", "only 200 are read")


def test_backslashes_of_formulas_survive() -> None:
    r"""``\alpha`` is not a JSON escape, but models write it."""
    (operation,) = parse_operations(ADDED.replace("Be kind.", r"Use \alpha and \u0041, \"so\"."), BOOK)
    assert operation.text == 'Use \\alpha and A, "so".'


@pytest.mark.parametrize("text", ['{"operations": []}', '{"reasoning": "fine", "operations": null}'])
def test_nothing_to_do_is_no_refusal(text: str) -> None:
    assert parse_operations(text, BOOK) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object in the reply"),
        ("I would add a rule. " + "x" * 2000, "no JSON object in the reply"),
        ('{"reasoning": "nothing"}', "a JSON object without operations"),
        ("__import__('os').system('true')", "no JSON object in the reply"),
        ('{"operations": "none"}', "operations is not a list"),
    ],
)
def test_a_reply_without_operations_is_one_refusal(text: str, why: str) -> None:
    (operation,) = parse_operations(text, BOOK)
    assert (operation.kind, operation.why) == ("REFUSED", why)
    assert len(operation.text) <= 500


def test_a_merged_id_means_its_successor() -> None:
    merged = curated(BOOK, Operation.merge((ROUND, UNIT), "Both.", BOOK.seen((ROUND, UNIT))))
    found = parse_operations(reply({"type": "REMOVE", "bullet_id": UNIT}), merged)
    assert found == (Operation.remove(ROUND, digest("Both.")),)


def test_a_long_playbook_is_not_listed_in_a_refusal() -> None:
    book = Playbook.parse("## A\n" + "\n".join(f"[a-{i}] helpful=0 harmful=0 :: text {i}" for i in range(30)))
    (operation,) = parse_operations(reply({"type": "REMOVE", "bullet_id": "b-1"}), book)
    assert operation.why == "no bullet [b-1]"


REFLECTION = {
    "reasoning": "Looked at it.",
    "error_identification": "Wrong unit.",
    "root_cause_analysis": "",
    "key_insight": ["Check units", "twice"],
    "bullet_tags": [
        {"id": UNIT, "tag": "helpful"},
        {"bullet_id": f"[{ROUND}]", "tag": " Harmful "},
        {"id": "x-1", "tag": "great"},
        {"tag": "helpful"},
        "rule-00001",
    ],
}


def test_a_reflection_and_its_tags() -> None:
    """A reflection's parts are read as text, and unknown tags are left out."""
    text, tags = parse_tags("Here:\n```json\n" + json.dumps(REFLECTION) + "\n```")
    assert text == "Reasoning: Looked at it.\nError identification: Wrong unit.\nKey insight: Check units, twice"
    assert tags == Tags(((UNIT, "helpful"), (ROUND, "harmful")))


@pytest.mark.parametrize(
    ("reply", "text", "tags"),
    [
        ("The unit was wrong.\n", "The unit was wrong.", ()),
        ("", "", ()),
        ('{"bullet_tags": {"a-1": "neutral", "a-2": 3}}', "", (("a-1", "neutral"),)),
        ('{"key_insight": "x", "bullet_tags": null}', "Key insight: x", ()),
        ('{"other": 1}', '{"other": 1}', ()),
    ],
)
def test_other_reflections(reply: str, text: str, tags: tuple[Any, ...]) -> None:
    """Prose is a reflection without tags, and a mapping of tags is read too."""
    assert parse_tags(reply) == (text, Tags(tags))


@pytest.mark.parametrize(
    ("reply", "answer", "ids"),
    [
        ('{"reasoning": "r", "bullet_ids": ["a-1", "[b-00002]"], "final_answer": " 42 "}', "42", ("a-1", "b-00002")),
        ('{"final_answer": 12.50}', "12.50", ()),
        ('{"final_answer": -1e5}', "-1e5", ()),
        ('{"final_answer": 0}', "0", ()),
        ('{"final_answer": false}', "false", ()),
        ('{"final_answer": ""}', "", ()),
        ('{"final_answer": ["a", "b", 3]}', "a, b, 3", ()),
        ('{"final_answer": {"x": [1, [2, 3]], "y": {"z": null}}}', "x: 1, [2, 3], y: z:", ()),
        ('{"final_answer": null, "answer": "yes"}', "yes", ()),
        ('{"reasoning": "by [fin-00003], calc-00004", "final_answer": "x"}', "x", ("fin-00003", "calc-00004")),
        ('{"steps": [{"bullets_used": "a-1, b-2"}], "final_answer": "x"}', "x", ("a-1", "b-2")),
        ('{"bullet_ids": "none", "final_answer": "x"}', "x", ()),
        ('{"final_answer": "draft"} then {"final_answer": "final"}', "final", ()),
        ('Think {x}. ```json\n{"final_answer": "\\frac{1}{2}",}\n```', "\\frac{1}{2}", ()),
        ('{"reasoning": "long", "final_answer": "cut \\"of', 'cut "of', ()),
        ("By [a-00001].\nFinal answer: first. No.\n**Final answer:** 42", "42", ("a-00001",)),
        ("**FINAL ANSWER = -5**\n", "-5", ()),
        ("The final answer is 7.", "7.", ()),
        ("Just 7", "Just 7", ()),
        ("", "", ()),
        ("eval('1+1')", "eval('1+1')", ()),
        ('{"a": 1}', '{"a": 1}', ()),
    ],
)
def test_an_answer_and_the_bullets_it_cites(reply: str, answer: str, ids: tuple[str, ...]) -> None:
    """Numbers stay as written; bullets count wherever they are named, each once."""
    assert parse_answer(reply) == (answer, ids)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["operations", "type", "id", "content", "bullet_ids", "tag"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)
SHAPES = ["{}", '{"operations": %s}', '{"bullet_tags": %s}', '{"final_answer": %s}', "```%s", "%s,}", "[{%s"]


@given(st.one_of(st.text(), st.builds(lambda value, shape: shape.replace("%s", json.dumps(value)), JSON,
                                      st.sampled_from(SHAPES))))  # fmt: skip
def test_no_reply_is_an_error(text: str) -> None:
    """Any reply is read, can be admitted, and can be stored as UTF-8."""
    operations = parse_operations(text, BOOK)
    _, tags = parse_tags(text)
    _, ids = parse_answer(text)
    read = [o.text + o.section + o.why for o in operations] + [i for i, _ in tags.counts] + list(ids)
    if text.isprintable():
        "".join(read).encode()
    after = curated(BOOK, *operations)
    assert Playbook.parse(after.text).text == after.text


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"' * 50_000,
        '{"a":' * 20_000,
        '{"a":1' * 20_000,
        "{" + " " * 50_000 + "x",
        '{"a":[' * 300 + "1" + "]}" * 300,
        '{"operations":' + "[" * 900 + "]" * 900 + "}",
        '"' * 50_000,
        '{"' + '\\"' * 50_000,
        "{" + "," * 50_000,
        "{,\n" + " " * 50_000,
        "[a" * 30_000,
        "a-" * 30_000,
        "Final answer" * 5_000,
    ],
)
def test_a_hostile_reply_costs_little(text: str) -> None:
    """A hostile reply costs little time and no stack."""
    assert all(o.kind == "REFUSED" for o in parse_operations(text, BOOK))
    assert parse_tags(text)[1] == Tags(())
    parse_answer(text)
