"""Any bytes from a candidate's process end in a value or in a reported failure, and are decoded once.

This test plays the process: it writes to the other end of the call's own channel.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flashgraph.llm.protocol import Reply
from flashgraph.sandbox import CandidateFailed, SandboxLimits
from flashgraph.sandbox.broker import converse
from flashgraph.sandbox.call import ChildCall, NotConfined, NotStarted
from flashgraph.sandbox.guest import wire

LIMITS = SandboxLimits(output_bytes=4096, llm_calls=4, llm_in_flight=2, prompt_bytes=512, prompts_bytes=1024)
LARGEST = max(LIMITS.output_bytes, 6 * LIMITS.prompt_bytes) + wire.SLACK
ENDED = json.dumps({"why": "", "signal": 0, "status": 0, "cpu": 0.0}).encode()

KEYS = st.sampled_from(["ready", "refused", "failed", "message", "value", "llm", "messages", "reply", "", "x"])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.just(2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5), st.sampled_from(["syntax", "error", "memory", "output", "protocol", "user", "assistant"]),
)  # fmt: skip
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
        st.builds(lambda role, content: [{"role": role, "content": content}], inner, inner),
    ),
    max_leaves=8,
)
FRAMES = st.one_of(
    st.just({"ready": True}),
    st.just({"ready": True}),
    st.builds(lambda value: {"value": value}, VALUES),
    st.builds(lambda number, messages: {"llm": number, "messages": messages}, st.integers(-1, 5), VALUES),
    st.builds(lambda kind, text: {"failed": kind, "message": text}, LEAVES, LEAVES),
    st.dictionaries(KEYS, VALUES, max_size=4),
    VALUES,
)
ODD = st.sampled_from([
    b"{", b"\xff\xfe", b"NaN", b'{"value": 1e999}', b'{"value": -1e400}', b'{"value": Infinity}', b"[" * 5000,
    b'{"value": "\\ud800"}', b'{"\\udfff": 1}', b'{"value": ' + b"9" * 5000 + b"}", b'{"value": 1}x', b"", b" ",
    b'{"value": ' + b"[" * 101 + b"]" * 101 + b"}", b'{"a":' * 3000 + b"1" + b"}" * 3000, b"\x00" * 9,
])  # fmt: skip
PIECES = st.one_of(
    FRAMES.map(lambda value: wire.pack(value)),
    ODD.map(lambda body: len(body).to_bytes(4, "little") + body),
    st.builds(lambda n, body: n.to_bytes(4, "little") + body, st.integers(0, 2**32 - 1), st.binary(max_size=30)),
    st.binary(max_size=30),
)


class Counted:
    """The decoder of frames, which counts the bytes that it gets."""

    def __init__(self) -> None:
        self.bytes = 0
        self._own = wire._DECODER

    def decode(self, text: str) -> Any:
        self.bytes += len(text.encode())
        return self._own.decode(text)


async def play(data: bytes, cuts: Sequence[int], llm: bool) -> tuple[str, Any, int]:
    """Return the end of a call, and its prompts, when its process writes ``data`` in pieces and then dies."""
    asked = 0

    async def answer(messages: Any, **params: Any) -> Reply:
        nonlocal asked
        asked += 1
        return Reply("ok")

    with ChildCall(LIMITS) as call:
        theirs = call._their_channel
        theirs.setblocking(False)

        async def write() -> None:
            bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
            for begin, end in itertools.pairwise(bounds):
                view = memoryview(data)[begin:end]
                while view:
                    try:
                        view = view[theirs.send(view) :]
                    except BlockingIOError:
                        await anyio.wait_writable(theirs)
                    except OSError:
                        return
                await anyio.lowlevel.checkpoint()
            call._their_lease.send(ENDED)
            theirs.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            try:
                ended: tuple[str, Any] = ("value", await converse(call, answer if llm else None))
            except CandidateFailed as error:
                ended = (error.kind, str(error))
            except (NotStarted, NotConfined) as error:
                ended = (type(error).__name__, None)
            tasks.cancel_scope.cancel()
        assert len(call._received) <= LARGEST + 256 * 1024
    return (*ended, asked)


@settings(max_examples=150)
@example([wire.pack({"ready": True}), wire.pack({"value": 1})], [1, 2, 3], True)
@example([wire.pack({"ready": True}), wire.pack({"llm": 0, "messages": "q"}), wire.pack({"value": 1})], [], True)
@given(st.lists(PIECES, max_size=6), st.lists(st.integers(0, 10_000), max_size=6), st.booleans())
def test_any_bytes_end_a_call(pieces: list[bytes], cuts: list[int], llm: bool) -> None:
    """It ends with a value that is finite JSON, or a failure of a known kind; nothing is decoded twice."""
    counted, data = Counted(), b"".join(pieces)
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(wire, "_DECODER", counted)
        how, value, asked = anyio.run(play, data, cuts, llm)
    kinds = ("value", "NotStarted", "NotConfined", "protocol", "killed", "syntax", "error", "entry", "memory", "output")
    assert how in kinds
    if how == "value":
        json.dumps(value, allow_nan=False).encode()
    assert asked <= (LIMITS.llm_calls if llm else 0)
    assert counted.bytes <= len(data)


@pytest.mark.slow
def test_ten_thousand_inputs() -> None:
    """The inputs are frames of every kind with flipped bits, and with bytes removed and inserted."""
    rng = random.Random(0)
    sound = [
        {"ready": True}, {"value": {"a": [1, 2.5, None, "text"]}}, {"llm": 0, "messages": "a question"},
        {"llm": 1, "messages": [{"role": "user", "content": "another"}]}, {"failed": "error", "message": "Traceback"},
    ]  # fmt: skip

    async def all_of_them() -> None:
        for _ in range(10_000):
            data = bytearray(b"".join(wire.pack(rng.choice(sound)) for _ in range(rng.randint(1, 5))))
            for _ in range(rng.randint(0, 6)):
                at = rng.randrange(len(data) + 1)
                match rng.randrange(3):
                    case 0 if at < len(data):
                        data[at] ^= 1 << rng.randrange(8)
                    case 1:
                        del data[at : at + rng.randint(1, 8)]
                    case _:
                        data[at:at] = rng.randbytes(rng.randint(1, 8))
            await play(bytes(data), [rng.randrange(100) for _ in range(3)], llm=rng.random() < 0.5)

    anyio.run(all_of_them)
