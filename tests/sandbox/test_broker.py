"""Calls of the model by a candidate: one round trip each, within the run's budget, while its clock is stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from flashgraph.errors import BudgetExhausted, ModelRefused, RequestFailed
from flashgraph.llm.protocol import Message, Reply
from flashgraph.sandbox import CandidateFailed, Sandbox, SandboxLimits
from flashgraph.sandbox.broker import _packed
from flashgraph.sandbox.guest import wire

pytestmark = pytest.mark.anyio

ASK = "def main(llm): return llm('a question')"


class Fake:
    """An `Llm` that records its prompts and the maximum of concurrent calls."""

    def __init__(self, answer: Callable[[Any], Awaitable[str]] | None = None) -> None:
        self.asked: list[str | Sequence[Message]] = []
        self.open = self.most = 0
        self._answer = answer

    async def __call__(self, messages: str | Sequence[Message], **params: Any) -> Reply:
        self.asked.append(messages)
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            return Reply(await self._answer(messages) if self._answer else f"re: {messages}")
        finally:
            self.open -= 1


async def test_a_question_is_answered(sandbox: Sandbox) -> None:
    """The prompt is a text or messages; the entry has a parameter for the model, has **kwargs, or has neither."""
    llm = Fake()
    assert (await sandbox.run(ASK, llm=llm)).value == "re: a question"
    code = "def main(q, **more): return more['llm']([{'role': 'user', 'content': q}])"
    await sandbox.run(code, arguments={"q": "ü"}, llm=llm)
    assert llm.asked == ["a question", [{"role": "user", "content": "ü"}]]
    assert (await sandbox.run("def main(): return 'alone'", llm=llm)).value == "alone"


async def test_threads_get_their_own_answers(sandbox: Sandbox) -> None:
    """Answers may come in any order, and the calls in flight are bounded."""

    async def slower_first(question: str) -> str:
        await anyio.sleep(0.02 - 0.001 * int(question))
        return question

    llm = Fake(slower_first)
    code = """
from concurrent.futures import ThreadPoolExecutor
def main(llm):
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda i: llm(str(i)), range(16)))
"""
    ran = await sandbox.run(code, llm=llm, limits=SandboxLimits(llm_in_flight=4))
    assert ran.value == [str(number) for number in range(16)]
    assert llm.most == 4


async def test_waiting_for_the_model_takes_no_time(sandbox: Sandbox) -> None:
    """The wall clock stops while a call is in flight, and only then."""

    async def slow(_: str) -> str:
        await anyio.sleep(2.5)
        return "late"

    limits = SandboxLimits(wall_seconds=2)
    assert (await sandbox.run(ASK, llm=Fake(slow), limits=limits)).value == "late"
    code = "import time\ndef main(llm):\n  llm('')\n  time.sleep(10)"
    with pytest.raises(CandidateFailed) as caught:
        await sandbox.run(code, llm=Fake(), limits=limits)
    assert caught.value.kind == "timeout"


async def test_a_request_that_failed_is_the_candidates_to_handle(sandbox: Sandbox) -> None:
    """The candidate gets a RuntimeError with the reason."""

    async def refuse(_: str) -> str:
        raise RequestFailed("too long a context")

    code = "def main(llm):\n  try: llm('x')\n  except RuntimeError as e: return str(e)"
    assert (await sandbox.run(code, llm=Fake(refuse))).value == "llm: too long a context"


@pytest.mark.parametrize("error", [BudgetExhausted("no calls left"), ModelRefused("wrong key"), KeyError("a fault")])
async def test_what_ends_the_run_is_raised(sandbox: Sandbox, error: Exception) -> None:
    """The error itself is raised, whatever the candidate does with it; the other calls in flight are cancelled."""

    async def answer(question: str) -> str:
        if question == "7":
            raise error
        await anyio.sleep(100)
        return ""

    code = """
import threading
def main(llm):
    def ask(i):
        try: llm(str(i))
        except BaseException: pass
    for i in range(8): threading.Thread(target=ask, args=(i,)).start()
    while True: pass
"""
    llm = Fake(answer)
    with pytest.raises(type(error)) as caught:
        await sandbox.run(code, llm=llm)
    assert caught.value is error
    assert llm.open == 0
    assert (await sandbox.run("def main(): return 1")).value == 1


async def test_cancelling_a_run_cancels_its_calls(sandbox: Sandbox) -> None:
    """No request stays with the model."""

    async def never(_: str) -> str:
        scope.cancel()
        await anyio.sleep(100)
        return ""

    llm = Fake(never)
    with anyio.CancelScope() as scope:
        await sandbox.run(ASK, llm=llm)
    assert scope.cancelled_caught
    assert len(llm.asked) == 1
    assert llm.open == 0


async def test_the_number_of_calls_is_bounded(sandbox: Sandbox) -> None:
    """The next call fails in the candidate; one that bypasses the child's own side ends the run."""
    code = """
def main(llm):
    done = 0
    try:
        while True:
            llm('x')
            done += 1
    except RuntimeError as error:
        return [done, str(error)]
"""
    assert (await sandbox.run(code, llm=Fake(), limits=SandboxLimits(llm_calls=3))).value == [
        3,
        "llm: this run has used up its 3 calls of the model",
    ]


@pytest.mark.parametrize(
    ("number", "messages"),
    [
        ("5", '"x"'),
        ("true", '"x"'),
        ("-1", '"x"'),
        ("0", "[]"),
        ("0", "7"),
        ("0", '[{"role": "a", "content": 1}]'),
        ("0", '[{"role": "a lot of context", "content": "x"}]'),
    ],
)
async def test_forged_calls_are_found_out(sandbox: Sandbox, number: str, messages: str) -> None:
    """These are calls that the sandbox's own side would not send."""
    code = f"""
import os, struct, time
def main():
    text = b'{{"llm": {number}, "messages": {messages}}}'
    os.write(3, struct.pack("<I", len(text)) + text)
    time.sleep(100)
"""
    llm = Fake()
    with pytest.raises(CandidateFailed) as caught:
        await sandbox.run(code, llm=llm)
    assert caught.value.kind == "protocol"
    assert llm.asked == []


async def test_a_flood_of_calls_ends_with_the_run(sandbox: Sandbox) -> None:
    """Calls after the deadline, or with unread answers, delay nothing."""
    code = """
import os, struct, time
def main(llm, numbered):
    number = 0
    while True:
        text = b'{"llm": %d, "messages": "%s"}' % (number, b"x" * 10_000)
        os.write(3, struct.pack("<I", len(text)) + text)
        number += numbered
"""
    for numbered in (0, 1):
        llm = Fake()
        with pytest.raises(CandidateFailed) as caught:
            await sandbox.run(code, arguments={"numbered": numbered}, llm=llm, limits=SandboxLimits(llm_calls=20))
        assert caught.value.kind == "protocol"
        assert len(llm.asked) <= 20
    assert (await sandbox.run("def main(): return 1")).value == 1


@pytest.mark.parametrize(
    "prompt", ["7", "[]", "[{'role': 'user'}]", "[{'role': 'a lot', 'content': 'x'}]", "'x' * 10 ** 7", "'\\ud800'"]
)
async def test_what_is_no_prompt_is_said(sandbox: Sandbox, prompt: str) -> None:
    """The candidate gets a TypeError or ValueError before anything is sent."""
    llm = Fake()
    with pytest.raises(CandidateFailed, match=r"(Type|Value)Error: llm:") as caught:
        await sandbox.run(f"def main(llm): llm({prompt})", llm=llm)
    assert caught.value.kind == "error"
    assert llm.asked == []


async def test_prompts_are_bounded(sandbox: Sandbox) -> None:
    """Each prompt is bounded, and all of a run together, because the journal keeps them.  The bound is in bytes."""
    code = """
def main(llm, sizes):
    found = []
    for size in sizes:
        try:
            llm([{"role": "user", "content": "\\x01" * (size - 4)}])
            found.append("")
        except (ValueError, RuntimeError) as error:
            found.append(str(error))
    return found
"""
    limits = SandboxLimits(prompt_bytes=5000, prompts_bytes=12_000, output_bytes=4096)
    llm = Fake()
    ran = await sandbox.run(code, arguments={"sizes": [5000, 5001, 5000, 2001, 2000, 100]}, llm=llm, limits=limits)
    said = "llm: the prompts of this run would exceed 12000 bytes together"
    assert ran.value == ["", "llm: a prompt of 5001 bytes; expected at most 5000", "", said, "", said]
    assert len(llm.asked) == 3


@pytest.mark.parametrize("prompts", [["x" * 5001], ["x" * 5000, "x" * 5000, "x" * 2001]])
async def test_forged_prompts_are_bounded_too(sandbox: Sandbox, prompts: list[str]) -> None:
    """The trusted side enforces the bounds, whatever the process sends."""
    frames = [wire.pack({"llm": number, "messages": prompt}) for number, prompt in enumerate(prompts)]
    code = f"import os\ndef main(llm):\n    for frame in {frames!r}:\n        os.write(3, frame)\n    return 1"
    limits = SandboxLimits(prompt_bytes=5000, prompts_bytes=12_000)
    with pytest.raises(CandidateFailed, match="more of prompts than the run may send") as caught:
        await sandbox.run(code, llm=Fake(), limits=limits)
    assert caught.value.kind == "protocol"


async def test_half_a_character_in_a_reply(sandbox: Sandbox) -> None:
    """It arrives as U+FFFD; a frame that could not contain it says so instead."""

    async def broken(_: str) -> str:
        return "\ud800"

    assert (await sandbox.run(ASK, llm=Fake(broken))).value == "\ufffd"
    found = wire.unpack(_packed({"reply": 3, "text": "\ud800"}))
    assert found is not None
    assert found[0] == {"reply": 3, "error": "the reply cannot be encoded"}
