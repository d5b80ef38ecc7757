"""The proposer's conversation: its turns, what it may read, and what it never sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.graph.ports import Member
from flashgraph.llm.protocol import Reply
from flashgraph.llm.scripted import Line, ScriptedModel
from flashgraph.parts.meta_harness import (
    Checked,
    FailedProgram,
    HarnessArchive,
    Prediction,
    Program,
    Proposals,
    Trained,
    datasets,
    identity,
    propose_programs,
)
from flashgraph.parts.meta_harness.agent import LAST
from flashgraph.parts.meta_harness.desk import Desk
from flashgraph.parts.meta_harness.reply import ToolRequest
from tests.parts.meta_harness.kit import admit, code, group
from tests.parts.meta_harness.worlds import World

TASK = World(28).task()
WRITTEN = f"Here:\n```python\n{code(9)}```"


def archived() -> HarnessArchive:
    """Return an archive with one scored program, half right and with one failed prediction, and one failure."""
    samples = datasets(TASK, "val")
    trained = Trained(
        Checked("baseline seed", code(1), identity(code(1)), tuple(samples)), dict.fromkeys(samples, "s"), samples
    )
    made = [
        Prediction(q.dataset, q.index, 1.0, TASK.val[q.index].answer, 100, 1)
        if i % 3 == 0
        else Prediction(q.dataset, q.index, 0.0, "wrong-answer", 300, 1)
        if i % 3 == 1
        else Prediction(q.dataset, q.index, 0.0, "", 300, 1, "Traceback ...\nKeyError: 'lost'")
        for i, q in enumerate(trained.questions())
    ]
    archive = admit(
        HarnessArchive(), fg.Group(trained, tuple(Member[Any](i, "arrived", p) for i, p in enumerate(made)))
    )
    return admit(archive, FailedProgram("iteration 1", "validate", "Traceback\nSyntaxError: in line 3", "class Memory"))


def converse(replies: Sequence[Line], turns: int = 4, candidates: int = 3) -> tuple[Proposals, ScriptedModel]:
    model = ScriptedModel(replies)

    async def llm(messages: Any, **params: Any) -> Reply:
        return await model.complete(messages, params)

    async def run() -> Proposals:
        return await propose_programs(llm, archived(), TASK, number=2, turns=turns, candidates=candidates)

    return anyio.run(run), model


def shown(model: ScriptedModel) -> str:
    return "\n".join(m["content"] for m in model.calls[-1].messages if m["role"] == "user")


def test_programs_end_the_conversation() -> None:
    """Programs end the conversation, at most as many as wanted, in their order."""
    several = "\n".join(f"```python\n{code(n)}```" for n in range(5))
    found, model = converse([several])
    assert found.results == tuple(Program("iteration 2", code(n)) for n in range(3))
    assert (found.turns, found.read, len(model.calls)) == (1, (), 1)


def test_reading_before_writing() -> None:
    """Requests are answered in the next turn, and the conversation remembers the entries that were read."""
    found, model = converse(["LIST\nREAD 0\nREAD 1\nREAD 7", "FAILURES 0\nEXAMPLES b", WRITTEN])
    text = shown(model)
    assert found.results == (Program("iteration 2", code(9)),)
    assert found.read == (0, 1, 0)
    assert code(1) in text
    assert "There is no such program. There are: #0, #1" in text
    assert "#1 iteration 1: failed at validate: Traceback SyntaxError: in line 3" in text
    assert "wrong-answer" in text
    assert "KeyError: 'lost'" in text
    assert str(TASK.train[0]) in text
    assert [m["role"] for m in model.calls[-1].messages] == ["user", "assistant", "user", "assistant", "user"]


def test_the_last_turn_is_announced_and_kept() -> None:
    """The last turn is announced; a proposer that only reads, or is unreadable, has used up its iteration."""
    found, model = converse(["LIST", "Hm.", "READ 0"], turns=3)
    (failed,) = found.results
    assert isinstance(failed, FailedProgram)
    assert (failed.origin, failed.step) == ("iteration 2", "propose")
    assert failed.reason == "no program in 3 turns; the last reply was: 'READ 0'"
    assert len(model.calls) == 3
    assert shown(model).endswith(LAST)
    assert "There was no program" in shown(model)


def test_one_turn() -> None:
    """With one turn, the first prompt asks for the programs."""
    _, model = converse([WRITTEN], turns=1)
    assert LAST in shown(model)


def test_a_failed_request_uses_up_the_iteration() -> None:
    """A failed request is archived with its reason, like an empty proposal."""
    found, _ = converse([fg.RequestFailed("HTTP 500")])
    (failed,) = found.results
    assert isinstance(failed, FailedProgram)
    assert "HTTP 500" in failed.reason


def test_a_model_that_is_down_is_no_proposal() -> None:
    """An error that stops the run passes through."""
    with pytest.raises(fg.ModelUnavailable):
        converse([fg.ModelUnavailable("down")])


def test_a_proposer_never_sees_answers_or_tests() -> None:
    """A proposer never sees a test sample, an answer or feedback of a validation sample, or a right prediction's
    answer."""
    requests = "LIST\nFAILURES 0\nREAD 0\n" + "\n".join(f"EXAMPLES {n}" for n in datasets(TASK, "train"))
    text = shown(converse([requests, WRITTEN])[1])
    assert "secret-train-" in text
    assert "secret-val-" not in text
    assert "secret-test-" not in text
    assert str(TASK.test[0]) not in text
    entry = archived().entries[0]
    right = [str(TASK.val[p.index]) for p in entry.predictions if p.score == 1.0]
    assert right
    assert not any(sample in text for sample in right)


def test_examples_of_a_data_set_are_paged() -> None:
    """EXAMPLES NAME FROM shows eight samples from there on."""
    task = fg.Task(
        "many",
        train=[type("S", (), {"answer": str(i), "__str__": lambda s: f"<{s.answer}>"})() for i in range(20)],
        val=[0],
        score=lambda s, o: fg.Score(0.0),
    )
    page = anyio.run(Desk(HarnessArchive(), task).answer, ToolRequest("EXAMPLES", "many 8"))
    assert "training samples 8 to 16 of 20 of many" in page
    assert "<7>" not in page
    assert "<8>" in page
    assert "<15>" in page
    assert "<16>" not in page


def test_a_long_board_is_cut() -> None:
    """A long board shows the best and the newest in their order, and counts the rest, which LIST shows."""
    archive = HarnessArchive()
    for number in range(30):
        archive = admit(archive, group(number, {"a": [(float(number == 4), 1)]}))
    desk = Desk(archive, TASK)
    lines = desk.board(9).splitlines()
    assert [line.split()[0] for line in lines[:9]] == [f"#{i}" for i in (0, 1, 2, 3, 4, 5, 27, 28, 29)]
    assert lines[9:] == ["... and 21 more: LIST shows all"]
    assert len(anyio.run(desk.answer, ToolRequest("LIST")).splitlines()) == 31
