"""Identity, the faults of a seed, and the driver in the real sandbox."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashgraph.llm.protocol import Reply
from flashgraph.parts.meta_harness import DRIVER, FEW_SHOT, NO_MEMORY, identity
from flashgraph.parts.meta_harness.interface import lacks
from flashgraph.sandbox import CandidateFailed, Sandbox, broker
from flashgraph.sandbox.guest import broker as guest
from tests.parts.meta_harness.real import needs_confinement
from tests.parts.meta_harness.worlds import LEARNS, PREDICTS, program


def test_identity_is_of_the_program_not_its_layout() -> None:
    """Comments, blank lines and the width of indentation do not change identity; names, strings and nesting do."""
    one = "class A:\n    x = 1\n    y = 'a b'\n"
    assert identity(one) == identity("# hello\n\nclass A:\n  x = 1  # one\n\n  y = 'a b'\n\n")
    assert identity(one) == identity(one.strip())
    for other in ("class A:\n    x = 2\n    y = 'a b'\n", "class A:\n    x = 1\n    y = 'a  b'\n", one + "z = 1\n"):
        assert identity(one) != identity(other)
    assert identity("if a:\n    b\nc\n") != identity("if a:\n    b\n    c\n")


@given(st.text(max_size=200))
def test_any_text_has_an_identity(text: str) -> None:
    """Any text has an identity, even if it is not Python."""
    assert identity(text) == identity(text)
    assert len(identity(text)) == 64


def test_deep_nesting_is_no_danger() -> None:
    """Nesting that would exhaust a parser's stack is hashed like any other text."""
    assert len(identity("(" * 100_000)) == 64
    assert len(identity("x = " + "-" * 100_000 + "1")) == 64


@pytest.mark.parametrize(
    ("code", "lack"),
    [
        (NO_MEMORY, ""),
        (FEW_SHOT, ""),
        ("class MemorySystem(Base): ...", ""),
        ("class Memory: ...", "it defines no class MemorySystem"),
        ("class MemorySystem:\n    x =", "line 2 is not Python: invalid syntax"),
        (NO_MEMORY.replace("get_state", "state"), "its MemorySystem has no method get_state"),
    ],
)
def test_a_seeds_faults_are_found(code: str, lack: str) -> None:
    """A seed's faults are found before it runs; the sandbox finds the ones that a base class may hide."""
    assert lacks(code) == lack


# ---- in the real sandbox ---------------------------------------------------------------------------------


async def _llm(messages: Any, **_: Any) -> Reply:
    return Reply(f"reply to {messages if isinstance(messages, str) else messages[-1]['content']}")


def run(*steps: tuple[str, str, dict[str, Any]]) -> list[Any]:
    """Return the values of (code, entry, arguments) runs in one sandbox; for a failed run, the failure's text."""

    async def main() -> list[Any]:
        values: list[Any] = []
        box = Sandbox()
        async with box.open():
            for code, entry, arguments in steps:
                llm = None if entry == "check" else _llm
                try:
                    values.append((await box.run(code, entry=entry, driver=DRIVER, arguments=arguments, llm=llm)).value)
                except CandidateFailed as error:
                    values.append(str(error))
        return values

    return anyio.run(main)


@needs_confinement
def test_baselines_pass_the_check_learn_and_predict() -> None:
    """The state goes from one process to the next, and the model is called with the learned state."""
    batch = [{"input": "two", "answer": "2", "feedback": ""}, {"input": "three", "answer": "3", "feedback": ""}]
    checked, state = run((FEW_SHOT, "check", {}), (FEW_SHOT, "learn", {"batch": batch}))
    assert checked is None
    assert state == '[["two", "2"], ["three", "3"]]'
    (few, no) = run(
        (FEW_SHOT, "predict", {"input": "four", "state": state}),
        (NO_MEMORY, "predict", {"input": "four", "state": ""}),
    )
    assert few == "reply to Input: two\nAnswer: 2\n\nInput: three\nAnswer: 3\n\nInput: four\nAnswer:"
    assert no == "reply to four\n\nGive only the answer."


@needs_confinement
def test_the_check_refuses_bad_programs() -> None:
    """Each refusal gives a reason that says what to correct."""
    lines = {
        "no class": ("x = 1", "the program defines no class MemorySystem"),
        "no class but a function": ("def MemorySystem(llm): ...", "the program defines no class MemorySystem"),
        "no method": (NO_MEMORY.replace("set_state", "put_state"), "MemorySystem has no method set_state"),
        "wrong arguments": (
            NO_MEMORY.replace("def predict(self, input)", "def predict(self)"),
            "MemorySystem.predict cannot be called with 1 argument(s)",
        ),
        "no text": (NO_MEMORY.replace('return ""', "return 3"), "get_state() returned int, expected str"),
        "calls": (NO_MEMORY.replace("self.llm = llm", "llm('hello')"), "the model was called before"),
        "syntax": ("class MemorySystem\n", "SyntaxError"),
        "import": ("import nowhere\n", "No module named 'nowhere'"),
    }
    found = run(*((code, "check", {}) for code, _ in lines.values()))
    for name, result in zip(lines, found, strict=True):
        assert lines[name][1] in str(result), (name, result)


@needs_confinement
def test_learning_and_predicting_refuse_bad_programs() -> None:
    """A failure belongs to the candidate and has its traceback; an answer that is not a pair is one too."""
    batch = [{"input": "<a train 1>", "answer": "red", "feedback": ""}]
    breaking = program(LEARNS["breaks"], PREDICTS["no tuple"])
    learned, predicted = run(
        (breaking, "learn", {"batch": batch}), (breaking, "predict", {"input": "<a val 1>", "state": ""})
    )
    assert "ValueError: cannot learn" in learned
    assert "predict() returned str, expected a tuple (answer, metadata)" in predicted


@pytest.mark.parametrize(
    ("messages", "passes"),
    [
        ([{"role": role, "content": "x"} for role in ("system", "user", "assistant", "tool")], True),
        ([{"role": "developer", "content": "x"}], False),
        ([{"role": "a context that nobody counts", "content": ""}], False),
        ([{"role": "user", "content": "x"}, {"role": "", "content": "x"}], False),
        ([{"role": "user", "content": "x", "name": "y"}], False),
    ],
)
def test_the_roles_of_messages_that_a_program_may_send(messages: Any, passes: bool) -> None:
    """Both sides of the sandbox check roles: the program gets an error, and a message that evades its own side is
    forged."""
    assert broker._are_messages(messages) is passes
    assert all(map(guest._is_message, messages)) is passes
