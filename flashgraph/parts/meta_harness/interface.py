"""The interface of a harness program, its description for proposers, and the driver that runs one in a sandbox."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize

__all__ = ["DRIVER", "INTERFACE", "identity", "lacks"]

METHODS = ("predict", "learn_from_batch", "get_state", "set_state")

INTERFACE = '''class MemorySystem:
    def __init__(self, llm):
        """llm(prompt: str) -> str asks the model; call it as often as you need."""

    def learn_from_batch(self, batch: list[dict]) -> None:
        """Learn from solved examples: dicts with "input", "answer" (the right one) and "feedback", all strings."""

    def predict(self, input: str) -> tuple[str, dict]:
        """The answer to a new input, and whatever you want to note about it."""

    def get_state(self) -> str:
        """All that was learned, as one string."""

    def set_state(self, state: str) -> None:
        """Take up what get_state returned, in a new process: predict is called after this."""
'''

DRIVER = '''"""Drives a harness program: checks its interface, lets it learn, lets it predict."""

import inspect

import candidate


def memory_system(llm):
    """The candidate's MemorySystem, made with ``llm``."""
    found = getattr(candidate, "MemorySystem", None)
    if not isinstance(found, type):
        raise TypeError("the program defines no class MemorySystem")
    return found(llm)


def text_of(memory):
    state = memory.get_state()
    if not isinstance(state, str):
        raise TypeError(f"get_state() returned {type(state).__name__}, expected str")
    return state


def check():
    """Make it, look for its methods, and let an untrained state make the round trip.  The model is not called."""

    def llm(prompt):
        raise RuntimeError("the model was called before there was anything to learn or to answer")

    memory = memory_system(llm)
    for name, arguments in (("learn_from_batch", 1), ("predict", 1), ("get_state", 0), ("set_state", 1)):
        method = getattr(memory, name, None)
        if not callable(method):
            raise TypeError(f"MemorySystem has no method {name}")
        try:
            inspect.signature(method).bind(*[None] * arguments)
        except TypeError as error:
            raise TypeError(f"MemorySystem.{name} cannot be called with {arguments} argument(s): {error}") from None
    memory_system(llm).set_state(text_of(memory))


def learn(batch, llm):
    """The state after learning from the whole batch."""
    memory = memory_system(llm)
    memory.learn_from_batch(batch)
    return text_of(memory)


def predict(input, state, llm):
    """The answer of a new instance that has taken up the state."""
    memory = memory_system(llm)
    memory.set_state(state)
    found = memory.predict(input)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"predict() returned {type(found).__name__}, expected a tuple (answer, metadata)")
    return str(found[0])
'''


def identity(code: str) -> str:
    """Return the key that tells programs apart: the SHA-256 of the code without comments and layout.

    It compares tokens instead of syntax trees, because hostile text can exhaust a parser's stack.
    """
    try:
        tokens = [
            (tokenize.tok_name[t.type], "" if t.type in (tokenize.INDENT, tokenize.NEWLINE) else t.string)
            for t in tokenize.generate_tokens(io.StringIO(code.strip() + "\n").readline)
            if t.type not in (tokenize.COMMENT, tokenize.NL)
        ]
        text = repr(tokens)
    except (tokenize.TokenError, SyntaxError):
        text = "\n".join(line.rstrip() for line in code.strip().splitlines())
    return hashlib.sha256(text.encode()).hexdigest()


def lacks(code: str) -> str:
    """Return what a trusted program lacks of the interface, in words; empty if nothing visible in its text is
    missing."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return f"line {error.lineno} is not Python: {error.msg}"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "MemorySystem"]
    if not classes:
        return "it defines no class MemorySystem"
    methods = {node.name for node in classes[-1].body if isinstance(node, ast.FunctionDef)}
    missing = [] if classes[-1].bases else [name for name in METHODS if name not in methods]
    return f"its MemorySystem has no method {', '.join(missing)}" if missing else ""
