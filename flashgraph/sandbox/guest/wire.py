"""The bytes between the trusted side, the warm server and the children, and the decoding of JSON from a child.

There are three kinds of sockets.  Each server has one *control* socket: `SPAWN` and its descriptors in, one JSON
greeting out.  Each call has one *lease*: `PAUSE` and `RESUME` in, one JSON `Ended` out; closing it kills the child.
Each call has one *channel* between the trusted side and the child itself: frames of JSON, which a candidate may forge.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any

__all__ = [
    "ASKING",
    "DESCRIPTORS",
    "MESSAGE_LENGTH",
    "PAUSE",
    "RESUME",
    "ROLES",
    "SLACK",
    "SPAWN",
    "Malformed",
    "head",
    "pack",
    "prompt_size",
    "unpack",
]

SPAWN = struct.Struct("<ddQQQQ")
"""cpu seconds, wall seconds, memory bytes, scratch bytes, output bytes, threads"""

DESCRIPTORS = 4
"""The number of descriptors with `SPAWN`: the child's channel, the lease, and the files for stdout and stderr."""

PAUSE, RESUME = b"p", b"r"

SLACK = 64 * 1024
"""Bytes of a frame beyond the limit of its content: its keys and the escapes of a message."""

MESSAGE_LENGTH = 4000
"""Characters of a failure's message: its end, which has the cause in a traceback."""

ROLES = ("system", "user", "assistant", "tool")
"""Roles of a candidate's messages; estimates of tokens would not count any other text."""

ASKING = ("llm_calls", "prompt_bytes", "prompts_bytes")
"""Limits of a job on its calls of the model."""

MAX_DEPTH = 100

_HEAD = struct.Struct("<I")
_LARGEST = sys.float_info.max


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


# Made once, because that takes longer than a small frame.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


class Malformed(Exception):
    """Bytes that are not a frame: not JSON, nested too deeply, or text that cannot be encoded."""


def prompt_size(prompt: Any) -> int:
    """Return the bytes of a prompt's texts; a prompt is a text or a list of messages."""
    texts = [prompt] if isinstance(prompt, str) else [part for message in prompt for part in message.values()]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def pack(value: Any) -> bytes:
    """Return one frame.  Raises `Malformed` for invalid JSON: NaN, lone surrogates, over 100 levels, ..."""
    try:
        body = _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    _bound_depth(value, body)
    return _HEAD.pack(len(body)) + body


def head(data: bytes | bytearray) -> int | None:
    """Return the bytes in the body of the first frame of ``data``; None if its head is incomplete."""
    if len(data) < _HEAD.size:
        return None
    length: int = _HEAD.unpack_from(data)[0]
    return length


def unpack(data: bytes | bytearray) -> tuple[Any, int] | None:
    """Return the first frame's value and its length in bytes; None if it is incomplete.  Raises `Malformed`."""
    length = head(data)
    if length is None or len(data) < _HEAD.size + length:
        return None
    body = bytes(data[_HEAD.size : _HEAD.size + length])
    try:
        value = _DECODER.decode(body.decode())
        if b"\\ud" in body or b"\\uD" in body:
            # An escaped lone surrogate is valid JSON, but no journal, file or request could contain it.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    _bound_depth(value, body)
    return value, _HEAD.size + length


def _bound_depth(value: Any, body: bytes) -> None:
    """Raise `Malformed` for deep nesting, so that a candidate cannot exhaust the stack of later recursive code."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list, tuple))]
