"""A journal's values without the classes of its graph: plain dictionaries, lists and texts for readers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashgraph.run.journal.codec import Get
from flashgraph.run.journal.jsontext import TAG, printed, untagged

__all__ = ["plain", "texts"]


def plain(data: Any, get: Get) -> Any:
    """Return the plain JSON form of a value that `Codec.encode` made ``data`` from; ``get`` returns a stored text.

    An object becomes the dictionary of its fields, a tuple or set a list, an enum member its name; bytes stay base64.
    Unlike `Codec.decode`, it needs no graph and accepts every class.
    """
    if isinstance(data, list):
        return [plain(d, get) for d in data]
    if not isinstance(data, dict):
        return data
    tag, of = data.get(TAG), data.get("of")
    match tag:
        case None:
            return {k: plain(v, get) for k, v in data.items()}
        case "long":
            return get(str(of))
        case "bytes":
            return of
        case "float":
            return untagged(data)
        case "enum":
            return data.get("is")
        case "dict":
            return {_key(plain(k, get)): plain(v, get) for k, v in of or ()}
        case "tuple" | "set" | "frozenset":
            return plain(of, get)
    fields = {k: plain(v, get) for k, v in data.items() if k != TAG}
    # A named tuple's field names are in its class, which is not known here.
    return fields["of"] if list(fields) == ["of"] and isinstance(of, list) else fields


def _key(key: Any) -> str:
    return key if isinstance(key, str) else printed(key)


def texts(value: Any) -> dict[str, str]:
    """Return the texts of a plain value by name, so that any two values can be compared line by line.

    They are the components of an artifact that consists of texts, or an object's ``text``, or else the whole value as
    indented JSON.
    """
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, Mapping) and value:
        if all(isinstance(text, str) for text in value.values()):
            return dict(value)
        if isinstance(value.get("text"), str | Mapping):
            return texts(value["text"])
    return {"value": printed(value, indent=2)}
