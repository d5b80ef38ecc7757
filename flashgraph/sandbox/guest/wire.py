"""The bytes between the trusted side, the warm server and the children, and how JSON from a child is read.

Three kinds of sockets: one *control* socket a server (`SPAWN` and its descriptors in, one JSON greeting out), one
*lease* a call (`PAUSE` and `RESUME` in, one JSON `Ended` out; closing it kills the child), and one *channel* a call
between the trusted side and the child itself (frames of JSON, whatever a candidate may forge on it).
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
"""What comes with `SPAWN`: the child's channel, the lease, and the files that take stdout and stderr."""

PAUSE, RESUME = b"p", b"r"

SLACK = 64 * 1024
"""Bytes that a frame may have beyond the limit of what it carries: its keys and the escapes of a message."""

MESSAGE_LENGTH = 4000
"""Characters of a failure's message: its end, where a traceback says what happened."""

ROLES = ("system", "user", "assistant", "tool")
"""Roles of messages that a candidate may send: any text could be one, and be read by nobody who counts."""

ASKING = ("llm_calls", "prompt_bytes", "prompts_bytes")
"""Limits that come with a job: of what it may ask the model."""

MAX_DEPTH = 100

_HEAD = struct.Struct("<I")
_LARGEST = sys.float_info.max


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not -_LARGEST <= number <= _LARGEST:
        raise ValueError(f"{text[:20]} is no finite number")
    return number


# Made once: making them takes longer than a small frame does.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


class Malformed(Exception):
    """Bytes that are no frame: not JSON, too deep, or text that cannot be encoded."""


def prompt_size(prompt: Any) -> int:
    """Bytes of a prompt's texts: of a text, or of messages."""
    texts = [prompt] if isinstance(prompt, str) else [part for message in prompt for part in message.values()]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def pack(value: Any) -> bytes:
    """One frame.  Raises `Malformed` for what is not JSON: NaN, lone surrogates, deeper than 100 levels, ..."""
    try:
        body = _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    _bound_depth(value, body)
    return _HEAD.pack(len(body)) + body


def head(data: bytes | bytearray) -> int | None:
    """Bytes in the body of the frame that ``data`` begins with; None where the head is not complete."""
    if len(data) < _HEAD.size:
        return None
    length: int = _HEAD.unpack_from(data)[0]
    return length


def unpack(data: bytes | bytearray) -> tuple[Any, int] | None:
    """The first frame's value and its length in bytes, or None where it is not complete.  Raises `Malformed`."""
    length = head(data)
    if length is None or len(data) < _HEAD.size + length:
        return None
    body = bytes(data[_HEAD.size : _HEAD.size + length])
    try:
        value = _DECODER.decode(body.decode())
        if b"\\ud" in body or b"\\uD" in body:
            # An escaped lone surrogate is valid JSON, and no journal, file or request could hold it.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    _bound_depth(value, body)
    return value, _HEAD.size + length


def _bound_depth(value: Any, body: bytes) -> None:
    """Whoever works on a value later may do so recursively; a candidate must not be able to exhaust its stack."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, (dict, list, tuple))]
