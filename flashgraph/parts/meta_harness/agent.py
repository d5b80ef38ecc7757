"""The proposer: a conversation in which a model may read the archive for some turns, and then writes programs."""

from __future__ import annotations

import attrs

from flashgraph.errors import RequestFailed
from flashgraph.llm.protocol import Message
from flashgraph.parts.meta_harness.archive import HarnessArchive
from flashgraph.parts.meta_harness.datasets import datasets
from flashgraph.parts.meta_harness.desk import Desk
from flashgraph.parts.meta_harness.interface import INTERFACE
from flashgraph.parts.meta_harness.items import FailedProgram, Program
from flashgraph.parts.meta_harness.reply import read_reply
from flashgraph.tasks.task import Llm, Task

__all__ = ["Proposals", "propose_programs"]

REQUESTS_A_TURN = 8
MOST_ON_BOARD = 60

PROMPT = """You improve the memory of a question-answering system: a Python program that learns from solved examples and
then answers new inputs with the help of a language model. This is iteration {number} of a search. Every program so far
is archived with its scores.

A program is one Python module, standard library only, that defines

{interface}
It runs in a sandbox without network or files. predict runs for each input in a new process, after set_state. A program
is better when more of its answers are right, and when its predictions send fewer characters to the model.

The task is {task}. Data sets: {sizes}.

The archive:
{board}
{line}
You may read before you write. A line of one of these forms is answered in the next turn, up to {requests} of them in a
turn:
LIST
READ <number>       the code of a program
FAILURES <number>   inputs that a program answered wrongly
EXAMPLES <data set> <from>   solved training samples

{allowance} To end, write up to {candidates} different programs, each whole in a ```python block of its own.
Only programs that are not in the archive yet are evaluated."""

LAST = "This is your last turn: write the programs now, each whole in a ```python block of its own."


@attrs.frozen
class Proposals:
    """The result of a conversation: programs, or one failure instead.

    ``read`` holds the archive entries that the proposer read; ``turns`` is the number of its replies.
    """

    results: tuple[Program | FailedProgram, ...]
    read: tuple[int, ...] = ()
    turns: int = 0


async def propose_programs(
    llm: Llm, archive: HarnessArchive, task: Task, *, number: int, turns: int, candidates: int
) -> Proposals:
    """Let the model read the archive for at most ``turns`` turns and propose at most ``candidates`` programs.

    A failed request, or a conversation without a program, becomes a `FailedProgram`: its iteration is used up. Raises
    `UnusableReply` for a reply that is truncated, empty or refused.
    """
    origin = f"iteration {number}"
    desk = Desk(archive, task)
    messages: list[Message] = [{"role": "user", "content": _prompt(archive, task, desk, number, turns, candidates)}]
    for turn in range(1, turns + 1):
        try:
            reply = await llm(messages)
        except RequestFailed as error:
            return Proposals((FailedProgram(origin, "propose", f"{error}"),), tuple(desk.read), turn)
        text = reply.usable()
        read = read_reply(text)
        if read.programs:
            programs = tuple(Program(origin, code) for code in read.programs[:candidates])
            return Proposals(programs, tuple(desk.read), turn)
        answers = [await desk.answer(request) for request in read.requests[:REQUESTS_A_TURN]]
        if not answers:
            answers = ["There was no program in a ```python block, and no line with LIST, READ, FAILURES or EXAMPLES."]
        left = turns - turn
        answers.append(LAST if left == 1 else f"{left} turns are left.")
        messages = [
            *messages,
            {"role": "assistant", "content": text},
            {"role": "user", "content": "\n\n".join(answers)},
        ]
    failed = FailedProgram(origin, "propose", f"no program in {turns} turns; the last reply was: {text[:200]!r}")
    return Proposals((failed,), tuple(desk.read), turns)


def _prompt(archive: HarnessArchive, task: Task, desk: Desk, number: int, turns: int, candidates: int) -> str:
    train, val = datasets(task, "train"), datasets(task, "val")
    line = "" if archive.line is None else f"\nStart from #{archive.line}, the best one, and improve it.\n"
    return PROMPT.format(
        number=number,
        interface=INTERFACE,
        task=task.name,
        sizes="; ".join(f"{name}: {len(train[name])} to learn from, {len(val[name])} to predict" for name in val),
        board=desk.board(MOST_ON_BOARD),
        line=line,
        requests=REQUESTS_A_TURN,
        allowance=f"You have {turns} turns." if turns > 1 else LAST,
        candidates=candidates,
    )
