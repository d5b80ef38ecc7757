"""Ten thousand damaged replies, and ten thousand damaged reply bodies, crash nothing.

They are sound ones with flipped bits, removed and inserted bytes, and repeated parts. The default suite tries some of
them.
"""

from __future__ import annotations

import json
import random
from contextlib import suppress

import pytest

from flashgraph.errors import UnusableReply
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.completions import Completion, Malformed, parsed
from tests.text.test_reading_time import PARTS, READERS

SOUND = [
    "<think>a draft\n```python\nx = 1\n```\n</think>\nHere it is:\n```python\ndef f(a):\n    return 2\n```\n",
    "<<<<<<< SEARCH\n    if a:\n        return a\n=======\n    if a:\n        return 2\n>>>>>>> REPLACE\n",
    '{"reasoning": "it is", "operations": [{"type": "ADD", "section": "A", "content": "don\'t"}]}',
    "{'operations': [{'type': 'UPDATE', 'id': 'a-00001', 'content': 'x'}, {'type': 'DELETE', 'id': 'a-00002'}]}",
    '{"bullet_tags": [{"id": "a-00001", "tag": "helpful"}], "final_answer": "4"}',
    "READ 3\nLIST best\nREAD 4\n",
    "So the final answer is \\boxed{42}.\n",
    "~~~~text\na\n```\nb\n~~~~\nand 1,234.5",
]
BODY = {
    "id": "x", "object": "chat.completion", "model": "tiny",
    "choices": [
        {
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "hi"}], "reasoning_content": "so"},
        }
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}  # fmt: skip
BODIES = [
    json.dumps(BODY).encode(),
    json.dumps({**BODY, "error": {"message": "slow down", "code": 429}}).encode(),
    json.dumps({"error": {"message": "no", "type": "insufficient_quota"}}).encode(),
    b'{"choices": [{"message": {"content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}',
]


def changed(sound: bytes, rng: random.Random) -> bytes:
    """Return sound bytes with up to eight changes."""
    data = bytearray(sound)
    for _ in range(rng.randint(0, 8)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 12)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                data[at:at] = data[at : at + 20] * rng.randint(1, 8)
            case _:
                data[at:at] = rng.choice(PARTS).encode()
    return bytes(data)


def read(text: str) -> None:
    for reader in READERS.values():
        with suppress(UnusableReply):
            reader(text)


def read_body(body: bytes) -> None:
    with suppress(Malformed):
        completion = Completion.of(parsed(body))
        (completion.text + completion.thoughts).encode()
    Complaint.of_response(500, "", body).cut(100).encode()


MANY = pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])


@MANY
def test_changed_replies(count: int) -> None:
    """Every reader accepts each reply: thoughts, fences, edits, programs, curators' JSON, requests, answers."""
    rng = random.Random(count)
    for _ in range(count):
        read(changed(rng.choice(SOUND).encode(), rng).decode(errors=rng.choice(["replace", "surrogateescape"])))


@MANY
def test_changed_bodies(count: int) -> None:
    rng = random.Random(count)
    for _ in range(count):
        read_body(changed(rng.choice(BODIES), rng))
