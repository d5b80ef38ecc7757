"""Replies: thoughts are removed, unusable replies are refused, and runs whose model gives no others end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.run import events as ev
from flashgraph.testing.runs import TASK
from flashgraph.text.replies import LONGEST, Block, Edit, blocks, edits, fenced, parted, usable

# ---- thoughts --------------------------------------------------------------------------------------------

FENCED = "```\nThink between <think> and </think>.\n<think>\nhere\n</think>\n```"


@pytest.mark.parametrize(
    ("text", "answer", "thoughts"),
    [
        ("A", "A", ""),
        (" A \n", " A \n", ""),
        ("<think>t</think>A", "A", "t"),
        ("\n<think>\nt\n</think>\n\nA\n", "A", "t"),
        ("<THINK>t</THINK>A", "A", "t"),
        ("<thinking>t</thinking>A", "A", "t"),
        ("<thought>t</thought>A", "A", "t"),
        ("[THINK]t[/THINK]A", "A", "t"),
        ("<seed:think>t</seed:think>A", "A", "t"),
        ("t\n</think>\nA", "A", "t"),
        ("t</think>A", "A", "t"),
        ("<think>a</think><think>b</think>A", "A", "a\nb"),
        ("A\n<think>\nt\n</think>\nB", "A\n\nB", "t"),
        ("<think>I use <think> tags.</think> still\n</think>A", "A", "<think>I use <think> tags.</think> still"),
        ("<think>draft:\n```\nD\n```\n</think>\n```\nA\n```", "```\nA\n```", "draft:\n```\nD\n```"),
        ("draft:\n```\nD\n</think>\n```\nA\n```", "```\nA\n```", "draft:\n```\nD"),
        ("<think>t", "", "<think>t"),
        ("Sure.\n<think>\nt\n```\nD\n```", "", "Sure.\n<think>\nt\n```\nD\n```"),
        ("<think></think>A", "A", ""),
        (FENCED, FENCED, ""),
        (f"<think>t</think>\n{FENCED}", FENCED, "t"),
        ("Think in <think></think> tags.", "Think in <think></think> tags.", ""),
        ("<think>t</think>End your thoughts with </think>.", "End your thoughts with </think>.", "t"),
        ("a < b </b> <thinker>", "a < b </b> <thinker>", ""),
    ],
)
def test_thoughts_are_taken_off(text: str, answer: str, thoughts: str) -> None:
    """Thoughts are removed, whatever their tags and content; tags that belong to the answer stay."""
    found, taken = parted(text)
    assert found == answer
    assert taken.removeprefix("<think>") == thoughts.removeprefix("<think>")


WORDS = st.text(alphabet="ab \n`~#", max_size=40)


@given(WORDS, WORDS, st.sampled_from(["<think>{}</think>\n{}", "\n <think>\n{}\n</think>{}", "[THINK]{}[/THINK]{}"]))
def test_text_between_tags_is_not_in_the_answer(thoughts: str, answer: str, shape: str) -> None:
    """Fences within thoughts change nothing, of any length and also open ones."""
    assert parted(shape.format(thoughts, answer)) == (answer.strip(), thoughts.strip())


@given(st.text(alphabet="abc<>/think[]THINK`~ \n", max_size=200) | st.text(max_size=200))
def test_any_text_can_be_parted(text: str) -> None:
    """An answer and its thoughts consist only of parts of the text."""
    answer, thoughts = parted(text)
    assert len(answer) <= len(text)
    assert all(line.strip() in text for part in (answer, thoughts) for line in part.split("\n"))


@given(st.lists(st.sampled_from(["<think>", "</think>", "```\n", "~~~~\n", "\n", "word ", "  "]), max_size=30))
def test_tags_and_fences_in_any_order(parts: list[str]) -> None:
    """An answer never begins inside thoughts that have not ended."""
    text = "".join(parts)
    answer, _ = parted(text)
    if text.lstrip().startswith("<think>") and "</think>" not in text:
        assert answer == ""


# ---- fences ----------------------------------------------------------------------------------------------

DOCSTRING = '''def f():
    """Add.

```
f() == 1
```
    """
    return 1
'''


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx\n```", [Block("python", "x\n")]),
        ("````Python title=a.py\nx\n```\ny\n````", [Block("python", "x\n```\ny\n")]),
        ("~~~\nx\n```\n~~~", [Block("", "x\n```\n")]),
        ("```\r\nx\r\ny\r\n```\r\n", [Block("", "x\ny\n")]),
        ("```\nx\n`````  \nz", [Block("", "x\n")]),
        ("- a list:\n  ```py\n  def f():\n      pass\n\n  ```", [Block("py", "def f():\n    pass\n\n")]),
        ("```\na\n```\nand\n~~~~\nb\n~~~~", [Block("", "a\n"), Block("", "b\n")]),
        ("say ```x``` now\n```y```\n", []),
        ("```python\nx\n", [Block("python", "x\n\n", closed=False)]),
        (f"```python\n{DOCSTRING}```", [Block("python", DOCSTRING)]),
        (f"```\n{DOCSTRING}```\n```sh\nls\n```", [Block("", DOCSTRING), Block("sh", "ls\n")]),
        (
            '```python\nx = \'"""\'  # """\n```\n```\ny\n```',
            [Block("python", 'x = \'"""\'  # """\n'), Block("", "y\n")],
        ),
        ('```\nIt\'s """ so\n```\n```\ny\n```', [Block("", 'It\'s """ so\n'), Block("", "y\n")]),
    ],
)
def test_blocks(text: str, expected: list[Block]) -> None:
    """Blocks have fences of any length, tildes or indentation, and programs may hold fences in strings."""
    assert blocks(text) == expected


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Here:\n```text\nA\nB\n```\nDone.", "A\nB"),
        ("```A```", "A"),
        ("```\nA", "A"),
        ("```text\nA", "A"),
        ("A\n```", "A"),
        (" A ", "A"),
        ("``` ```", ""),
        ("```\nA\n```py\nx\n```\nB\n```", "A\n```py\nx\n```\nB"),
        ("````md\nA\n```\nx\n```\n````", "A\n```\nx\n```"),
        ("```\nA\n````", "A"),
        ("~~~\nA\n~~~", "A"),
        ("So:\n~~~text\nA\n```\nx\n```\n~~~\n", "A\n```\nx\n```"),
        ("```\nA ~~~ B\n~~~\n```", "A ~~~ B\n~~~"),
        ("```\r\nA\r\nB\r\n```", "A\nB"),
        ("", ""),
    ],
)
def test_fenced(answer: str, text: str) -> None:
    """The text is between the first fence and the last that closes it, without a language word."""
    assert fenced(answer) == text


LINES = st.lists(st.text(alphabet="ab `~'\"#=\\\r", max_size=8), max_size=8).map("\n".join)


@given(LINES, st.sampled_from(["```", "~~~", "`````"]))
def test_the_content_of_a_fence_is_read(body: str, marker: str) -> None:
    """A fence's content is read, unless it holds a fence of its own."""
    if marker[0] * 3 in body or "\r" in body:
        return
    (block,) = blocks(f"Here:\n{marker}text\n{body}\n{marker}\n.")
    assert block == Block("text", f"{body}\n")
    assert fenced(f"Here:\n{marker}\n{body}\n{marker}") == body.strip()


@given(LINES | st.text())
def test_any_text_has_blocks_and_a_fenced_text(text: str) -> None:
    """Blocks and fenced texts consist of the text's lines, without fences around them."""
    lines = {line.strip() for line in text.replace("\r", "\n").split("\n")}
    assert {line.strip() for block in blocks(text) for line in block.body.split("\n")} <= lines | {""}
    assert fenced(text) == fenced(text).strip()


# ---- edits -----------------------------------------------------------------------------------------------

EDIT = "<<<<<<< SEARCH\n{}\n=======\n{}\n>>>>>>> REPLACE\n"


def test_edits() -> None:
    """Each edit has the lines that may divide it."""
    text = "First:\r\n" + EDIT.format("a", "b").replace("\n", "\r\n") + "<<<<<< SEARCH\nc\n=====\n>>>>>REPLACE  "
    assert edits(text) == [Edit(("a", "=======", "b"), (1,)), Edit(("c", "====="), (1,))]
    (edit,) = edits(EDIT.format("A\n=======\nx", "B\n=====\ny"))
    assert edit.parts() == [(["A", "=======", "x"], ["B", "=====", "y"]), (["A"], ["x", "=======", "B", "=====", "y"])]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<<<<<<< SEARCH\na\n=======\nb", "edit 1 has no line >>>>>>> REPLACE"),
        (EDIT.format("a", "b") + "<<<<<<< SEARCH\nc\n", "edit 2 has no line >>>>>>> REPLACE"),
        ("<<<<<<< SEARCH\na\n=======\nb\n" + EDIT.format("c", "d"), "edit 1 has no line >>>>>>> REPLACE before"),
        ("<<<<<<< SEARCH\na\n>>>>>>> REPLACE", "edit 1 has no line ======="),
        (EDIT.format("a", "b") + "c\n>>>>>>> REPLACE", "after edit 1 there is a line >>>>>>> REPLACE without"),
    ],
)
def test_an_edit_without_one_of_its_marks_is_refused(text: str, reason: str) -> None:
    """An edit without one of its marks refuses the whole answer, because the rest could be half a change."""
    with pytest.raises(fg.UnusableReply, match=reason):
        edits(text)


@given(st.lists(st.sampled_from([*EDIT.format("a", "b").split("\n"), "=====", "x = 1", "\r", ""]), max_size=20))
def test_edits_of_any_lines(lines: list[str]) -> None:
    """Edits of any lines are read or refused; each line of an edit is in the answer."""
    try:
        found = edits("\n".join(lines))
    except fg.UnusableReply:
        return
    assert len(found) == sum(line == "<<<<<<< SEARCH" for line in lines)
    assert all(edit.dividers and set(edit.lines) <= {*lines, ""} for edit in found)


# ---- replies that cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (fg.Reply("```\nhalf of", finish="length"), r"truncated at its token limit \(finish=length\)(.|\n)*Fix: "),
        (fg.Reply("text", finish="max_tokens"), "truncated"),
        (fg.Reply("", finish="length"), "truncated"),
        (fg.Reply("partly", finish="content_filter"), "withheld"),
        (fg.Reply("", finish="refusal"), "withheld"),
        (fg.Reply("half", finish="abort"), "not complete"),
        (fg.Reply(""), "the reply is empty"),
        (fg.Reply(" \n\t"), "the reply is empty"),
        (fg.Reply("", thoughts="so"), "holds thoughts and no answer"),
        (fg.Reply("<think>so</think>"), "holds thoughts and no answer"),
        (fg.Reply("<think>so and so ```\nD\n```"), "holds thoughts and no answer"),
        (fg.Reply("I'm sorry, but I can't assist with that."), "the model refused"),
        (fg.Reply("I\u2019m sorry, I cannot help with this request."), "the model refused"),
        (fg.Reply("<think>Not allowed.</think>I am unable to rewrite this."), "the model refused"),
        (fg.Reply("x" * (LONGEST + 1)), "characters; at most"),
    ],
)
def test_a_reply_that_cannot_be_used_says_why(reply: fg.Reply, reason: str) -> None:
    with pytest.raises(fg.UnusableReply, match=reason):
        reply.usable()


@pytest.mark.parametrize(
    "text",
    [
        "Answer the question.",
        "Say you cannot answer when the text does not say it.",
        "I'm sorry for the confusion, I can't have been clear:\n```\nAnswer.\n```",
        "Sorry, that was too short. Answer in one word.",
    ],
)
def test_other_replies_can_be_used(text: str) -> None:
    """A text is no refusal only because it apologises or mentions what cannot be done."""
    assert usable(f" {text}\n") == f" {text}\n"
    assert fg.Reply(f"<think>t</think>{text}", finish="tool_calls").usable() == text


# ---- runs ------------------------------------------------------------------------------------------------


def reflecting(
    answer: Callable[[Any], fg.Reply],
    *,
    solved: Sequence[int] = (),
    minibatch: int = 3,
    schedule: str = "pipelined",
    proposals: int = 800,
) -> fg.Result:
    """Run GEPA on a task where every text passes only the ``solved`` samples, with this reply to each reflection."""
    task = fg.Task(
        "unsolved",
        range(6),
        range(4),
        seed={"text": "seed"},
        attempt=TASK.attempt,
        score=lambda sample, _: fg.Score(float(sample in solved), "wrong"),
    )
    return fg.run(
        "gepa",
        task,
        models={"task": lambda _: "out", "reflection": answer},
        schedule=schedule,
        budget=fg.Budget(proposals=proposals),
        params={"minibatch": minibatch},
    )


def proposals(result: fg.Result) -> list[ev.JobEnded]:
    return [e for e in result.events if isinstance(e, ev.JobEnded) and e.stage == "propose"]


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fg.Reply("```\ncut", finish="length"), "truncated at its token limit"),
        (fg.Reply(""), "the reply is empty"),
        (fg.Reply("<think>I might write\n```\nAnswer well.\n```"), "holds thoughts and no answer"),
        (fg.Reply("I'm sorry, but I can't help with that."), "the model refused"),
        (fg.Reply("```\n```"), "no text between its ``` fences"),
    ],
)
def test_a_reflection_that_is_never_usable_ends_the_run(answer: fg.Reply, reason: str, schedule: str) -> None:
    """A run whose reflections are never usable ends with that reason after twenty proposals, whatever other stages
    did."""
    result = reflecting(lambda _: answer, schedule=schedule)
    assert result.status == "failed"
    assert "stage 'propose' failed 20 times in a row" in result.reason
    assert reason in result.reason
    failed = [e for e in proposals(result) if e.how == "failed"]
    # Several may end in one turn.
    assert len(failed) == 20 if schedule == "lockstep" else 20 <= len(failed) < 40
    assert all(e.reason.startswith("UnusableReply: ") and reason in e.reason for e in failed)
    assert result.spent.proposals >= 20
    assert [a.value["text"] for a in result.artifacts] == ["seed"]


def test_a_perfect_minibatch_between_does_not_hide_it() -> None:
    """A perfect minibatch succeeds without calling the model, so it does not reset the count of unusable replies."""
    result = reflecting(lambda _: fg.Reply(""), solved=(0, 2, 4), minibatch=1)
    assert any(e.how == "done" for e in proposals(result))
    assert "failed 20 times in a row, the last time with: UnusableReply: the reply is empty" in result.reason


def test_unusable_replies_among_usable_ones_count_as_proposals() -> None:
    """Each unusable reply is a failed proposal with its reason, and the run continues to its budget."""
    count = 0

    def sometimes(_: object) -> fg.Reply:
        nonlocal count
        count += 1
        return fg.Reply("" if count % 3 else f"<think>plan ```x```</think>```\ntext {count}\n```")

    result = reflecting(sometimes, proposals=30)
    assert result.status == "budget"
    failed = [e for e in proposals(result) if e.how == "failed"]
    assert len(failed) == 20
    assert result.spent.proposals == 30


def test_stages_and_tasks_get_replies_without_thoughts() -> None:
    """The text of a reply is its answer, and ``thoughts`` hold the rest."""
    seen: list[tuple[str, str]] = []

    async def attempt(candidate: object, sample: object, llm: fg.Llm) -> str:
        reply = await llm("question")
        seen.append((reply.text, reply.thoughts))
        return reply.text

    task = fg.Task("t", [0], [0], [0], attempt=attempt, score=lambda _, output: fg.Score(float(output == "42")))
    models = {"task": lambda _: "<think>6 * 7</think>\n42", "reflection": lambda _: "```\nnew\n```"}
    result = fg.run("gepa", task, models=models, budget=fg.Budget(proposals=2))
    assert result.best is not None
    assert result.best.score == 1.0
    assert set(seen) == {("42", "6 * 7")}
