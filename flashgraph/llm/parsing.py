"""Read a reply as a value of a type, and describe the type to the model as a JSON schema.

`asked` makes one call of a model. With ``parse=``, it asks for JSON, reads the reply with tolerance, and has the model
repair an unreadable reply once. Each turn is a request of its own, so budgets, journals and caches need to know nothing
about types.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs
from cattrs.cols import list_structure_factory, mapping_structure_factory
from typing_extensions import is_typeddict

from flashgraph.errors import DataError, UnusableReply
from flashgraph.llm.messages import checked
from flashgraph.llm.protocol import Message, Reply
from flashgraph.text.lenient import objects, shown

__all__ = ["asked", "schema_of"]

ANSWER = "answer"
"""The member that holds a value that is no JSON object itself."""

SCALARS: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
FORMS = "an attrs class, dataclass, TypedDict, Literal, Enum, pydantic class, list[...], or a function of the text"


async def asked(
    call: Callable[..., Awaitable[Reply]],
    messages: str | Sequence[Message],
    *,
    parse: Any = None,
    response_format: Any = None,
    stream: Callable[[str], object] | bool | None = None,
    **params: Any,
) -> Reply:
    """Call a model, and return its reply, with the value that was read as `Reply.parsed`.

    ``parse`` is a type or a function of the text. A type's schema is appended to the messages. ``response_format`` is a
    type too, or a mapping, which is sent as it is. A reply that calls tools is returned unread.

    ``stream`` is a function that is called with the text so far, as it comes, and at last with the whole text.

    Raises `UnusableReply` if neither the reply nor its repair can be read, and `DataError` for another ``parse``.
    """
    if stream not in (None, False):
        call = _streamed(call, stream)
    if response_format is not None:
        params["response_format"] = _format(response_format)
    if parse is None:
        return await call(messages, **params)
    if not _is_typed(parse) and not callable(parse):
        raise DataError(f"llm(parse={parse!r:.80}): expected {FORMS}.\nFix: parse=MyType.")
    request = [*checked(messages)]
    wanted = "Answer in the form that was asked for."
    if _is_typed(parse):
        wanted = f"Answer with a JSON object that fits this schema, and nothing else:\n{json.dumps(schema_of(parse))}"
        request.append({"role": "user", "content": wanted})
    reply = await call(request, **params)
    if reply.tool_calls:
        return reply
    text = reply.usable()
    try:
        return attrs.evolve(reply, parsed=_read(parse, text))
    except Exception as error:  # a user's function or class may raise anything
        reason = _reason(error, parse)
    said = f"That reply cannot be read: {reason}\n{wanted}"
    request = [*request, {"role": "assistant", "content": text}, {"role": "user", "content": said}]
    repaired = await call(request, **params)
    if repaired.tool_calls:
        return repaired
    try:
        return attrs.evolve(repaired, parsed=_read(parse, repaired.usable()))
    except UnusableReply:
        raise
    except Exception as error:
        raise UnusableReply(
            f"the reply cannot be read as {_name(parse)}, nor can its repair: {_reason(error, parse)}; "
            f"the model wrote {shown(repaired.text)!r:.200}"
        ) from error


def _streamed(call: Callable[..., Awaitable[Reply]], stream: Any) -> Callable[..., Awaitable[Reply]]:
    """Return ``call`` with a callback for the text.

    A backend that does not stream ignores the callback or refuses it by name. A reply from a journal or a cache comes
    in one piece, so the whole text is shown at the end.
    """
    if not callable(stream):
        raise DataError(f"llm(stream={stream!r:.80}): expected a function of the text so far.\nFix: stream=print.")
    show: Callable[[str], object] = stream

    async def streaming(messages: Any, **params: Any) -> Reply:
        shown: list[str] = [""]

        def piece(text: str) -> None:
            shown[0] = text
            show(text)

        reply = await call(messages, stream=piece, **params)
        if reply.text != shown[0]:
            show(reply.text)
        return reply

    return streaming


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of an object that holds a value of ``kind``.

    Raises `DataError` for a type that JSON cannot hold.
    """
    schema = _schema(kind)
    if schema.get("type") == "object":
        return schema
    return {"type": "object", "properties": {ANSWER: schema}, "required": [ANSWER], "additionalProperties": False}


def _format(given: Any) -> Any:
    """Return a request's ``response_format``: a mapping as it is, a type as its schema."""
    if isinstance(given, Mapping):
        # A bare schema, or one of the API's own forms.
        bare = given.get("type") in ("object", "array") or "properties" in given
        return {"type": "json_schema", "json_schema": {"name": "reply", "schema": given}} if bare else given
    if not _is_typed(given):
        raise DataError(f"llm(response_format={given!r:.80}): expected a JSON schema or a type.\nFix: a class.")
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema_of(given)}}


def _read(kind: Any, text: str) -> Any:
    """Return the value in a text. Raises an exception, which gives the reason, if there is none."""
    if not _is_typed(kind):
        return kind(text)
    wrapped = not _is_object(kind)
    if wrapped:
        try:
            return _structured(text.strip().strip("`\"'*.").strip(), kind)
        except Exception:  # the text is no bare value, so it has to hold an object
            pass
    failed: Exception = ValueError("it has no JSON object")
    for found in reversed(objects(text, _number)):
        try:
            if wrapped and ANSWER not in found:
                raise ValueError(f"the JSON object has no member {ANSWER!r}")
            return _structured(found[ANSWER] if wrapped else found, kind)
        except Exception as error:
            failed = error if found else failed
    raise failed


def _structured(value: Any, kind: Any) -> Any:
    return kind.model_validate(value) if _is_pydantic(kind) else _CONVERTER.structure(value, kind)


def _reason(error: Exception, kind: Any) -> str:
    """Return why a text could not be read, in one line."""
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error, _name(kind), format_exception=_worded))[:500]
    return " ".join(str(error).split())[:500] or type(error).__name__


def _worded(error: BaseException, kind: type | None) -> str:
    if isinstance(error, KeyError):
        return f"the member {error.args[0]!r} is missing"
    return str(error) or type(error).__name__


# ---- types -----------------------------------------------------------------------------------------------


def _is_pydantic(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_json_schema")


def _is_class(kind: Any) -> bool:
    """Return whether a kind is a class with named members."""
    return isinstance(kind, type) and (attrs.has(kind) or dataclasses.is_dataclass(kind) or is_typeddict(kind))


def _is_object(kind: Any) -> bool:
    """Return whether JSON holds values of a kind as objects."""
    return _is_pydantic(kind) or _is_class(kind) or kind is dict or get_origin(kind) is dict


def _is_typed(kind: Any) -> bool:
    """Return whether a kind is a type that has a schema; other callables read the text themselves."""
    scalar = kind in (bool, int, float, dict, list) if isinstance(kind, type) else False
    is_enum = isinstance(kind, type) and issubclass(kind, enum.Enum)
    return scalar or is_enum or _is_object(kind) or get_origin(kind) in (Literal, Union, types.UnionType, list)


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)


def _schema(kind: Any) -> dict[str, Any]:
    origin, of = get_origin(kind), get_args(kind)
    if _is_pydantic(kind):
        return dict(kind.model_json_schema())
    if _is_class(kind):
        return _members(kind)
    if kind is Any:
        return {}
    if kind in (None, type(None)):
        return {"type": "null"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if origin is Literal:
        return {"enum": list(of)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one) for one in of]}
    if origin in (Required, NotRequired):
        return _schema(of[0])
    if kind in (list, tuple) or origin is list or (origin is tuple and of[1:] == (...,)):
        return {"type": "array", "items": _schema(of[0] if of else Any)}
    if kind is dict or (origin is dict and of[0] is str):
        return {"type": "object", "additionalProperties": _schema(of[1]) if of else True}
    raise DataError(
        f"llm(parse=...): {_name(kind)} has no JSON schema; expected {FORMS}.\nFix: str, or another member."
    )


def _members(kind: Any) -> dict[str, Any]:
    """Return the schema of a class with named members."""
    hints = get_type_hints(kind)
    if is_typeddict(kind):
        named, needed = list(hints), [name for name in hints if name in kind.__required_keys__]
    elif attrs.has(kind):
        fields = [field for field in attrs.fields(kind) if field.init]
        named, needed = [f.name for f in fields], [f.name for f in fields if f.default is attrs.NOTHING]
    else:
        empty = dataclasses.MISSING
        own = [f for f in dataclasses.fields(kind) if f.init]
        named = [f.name for f in own]
        needed = [f.name for f in own if f.default is empty and f.default_factory is empty]
    members = {name: _schema(hints.get(name, Any)) for name in named}
    return {"type": "object", "properties": members, "required": needed, "additionalProperties": False}


# ---- values ----------------------------------------------------------------------------------------------


def _number(written: str) -> int | float:
    """Return the number that a model wrote. Raises `ValueError` for infinity and for other words."""
    try:
        return int(written)
    except ValueError:
        number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{written} is not finite")
    return number


def _text(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"found {value!r:.60}, expected a text")


def _truth(value: Any, _: Any) -> bool:
    found = {"true": True, "yes": True, "false": False, "no": False}.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"found {value!r:.60}, expected true or false")
    return found


def _float(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"found {value!r:.60}, expected a number")
    try:
        return float(_number(value.strip()) if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        raise ValueError(f"found {value!r:.60}, expected a number") from None


def _whole(value: Any, _: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _float(value, _)
    if not number.is_integer():
        raise ValueError(f"found {value!r:.60}, expected a whole number")
    return int(number)


def _only(expected: type, factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory of hooks that refuse a value of another kind: a text would become its characters."""

    def made(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
        structure = factory(kind, converter)

        def hook(value: Any, of: Any) -> Any:
            if not isinstance(value, expected):
                raise ValueError(f"found {value!r:.60}, expected a {expected.__name__}")
            return structure(value, of)

        return hook

    return made


def _converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for kind, hook in ((str, _text), (bool, _truth), (int, _whole), (float, _float)):
        made.register_structure_hook(kind, hook)
    for container, factory in ((list, list_structure_factory), (dict, mapping_structure_factory)):
        made.register_structure_hook_factory(partial(_is_of, container), _only(container, factory))
    return made


def _is_of(container: Any, kind: Any) -> bool:
    return kind is container or get_origin(kind) is container


_CONVERTER = _converter()
