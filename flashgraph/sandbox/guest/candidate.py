"""Load a candidate as a module, call its entry, and explain failures in words for a model."""

from __future__ import annotations

import inspect
import linecache
import os
import resource
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from . import wire

__all__ = ["Failed", "out_of_memory", "perform"]


class Failed(Exception):
    """The run failed: a kind of `CandidateFailed`, and the message."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message[-wire.MESSAGE_LENGTH :]


def perform(job: dict[str, Any], llm: Any) -> Any:
    """Return the entry's result.  Raises `Failed`; `MemoryError` is not caught."""
    try:
        module = _load("candidate", job["code"])
        if job["driver"]:
            module = _load("driver", job["driver"])
        function = _entry(module, job["entry"])
        arguments = dict(job["arguments"])
        if llm is not None and _takes_llm(function):
            arguments["llm"] = llm
        value = _call(function, job["entry"], arguments)
    except (Failed, MemoryError):
        raise
    except BaseException as error:  # a candidate's SystemExit must not end the process unreported
        raise Failed("error", _explain(error)) from None
    if inspect.iscoroutine(value):
        value.close()
        raise Failed("entry", f"{job['entry']}() is async; expected a plain function: def, not async def")
    return value


def out_of_memory() -> bytes:
    """Return the last frame of a process without memory; this first raises the limit by its reserve."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return wire.pack({"failed": "memory", "message": "it ran out of memory (MemoryError)"})


def _load(name: str, code: str) -> types.ModuleType:
    """Run ``code`` as the module ``name``; tracebacks and ``inspect`` find its lines."""
    file = f"{name}.py"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    try:
        compiled = compile(code, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        text = "".join(traceback.format_exception_only(error)).rstrip()
        raise Failed("syntax", text) from None
    exec(compiled, module.__dict__)
    return module


def _entry(module: types.ModuleType, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]  # callable is all that is known
    if hasattr(module, name):
        raise Failed("entry", f"{module.__file__}: {name} is a {type(function).__name__}; expected a function")
    there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
    raise Failed("entry", f"{module.__file__} defines no {name}(); it defines {', '.join(there) or 'no function'}")


def _takes_llm(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    named = parameters.get("llm")
    if named is not None:
        return named.kind in (named.KEYWORD_ONLY, named.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _call(function: Callable[..., Any], name: str, arguments: dict[str, Any]) -> Any:
    try:
        return function(**arguments)
    except TypeError as error:
        # The call itself raised it: checking afterwards saves every good call a look at the signature.
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise
        called = ", ".join(f"{key}=..." for key in arguments)
        raise Failed("entry", f"{name}() cannot be called as {name}({called}): {error}") from None


def _explain(error: BaseException) -> str:
    """Return a traceback without the frames of this package."""
    try:
        own = os.path.dirname(__file__)
        described = traceback.TracebackException.from_exception(error, limit=-20)
        seen: set[int] = set()
        part: traceback.TracebackException | None = described
        while part is not None and id(part) not in seen:
            seen.add(id(part))
            part.stack[:] = [frame for frame in part.stack if not frame.filename.startswith(own)]
            part = part.__cause__ or part.__context__
        text = "".join(described.format()).rstrip()
    except MemoryError:
        raise
    except BaseException:  # a candidate's exception may fail to print
        text = f"{type(error).__name__} (it cannot be printed)"
    return text
