"""Validate chat completions: this module alone decides whether a server's answer is a reply.

A server may send anything: HTML with status 200, an error in place of the answer, token counts that are not numbers.
Only validated answers reach a run.  All others raise `Malformed`, or become the error that the server reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from flashgraph.errors import DataError
from flashgraph.llm.complaints import SAYING, Complaint
from flashgraph.llm.protocol import TokenLogprob, ToolCall, choices_wanted, is_count, whole_text

__all__ = ["Completion", "Malformed", "NoJson", "parsed", "refuse_unsupported", "spread"]

LONGEST_FINISH, LONGEST_NAME = 100, 500
"""Maximum lengths in characters: of a finish reason; of the name of a model or tool and the id of a call."""

FINISHES: Mapping[str, str] = {
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "recitation": "content_filter",
    "sensitive": "content_filter",
    "content-filter": "content_filter",
    "insufficient_system_resource": "error",
    **dict.fromkeys(("abort", "aborted", "canceled", "cancelled", "failed", "interrupted", "timeout"), "error"),
}
"""Finish reasons of other APIs, which some servers pass through, and OpenAI's words for them."""

UNSUPPORTED: Mapping[str, tuple[Any, str]] = {
    "best_of": (1, "send several requests, and choose"),
    "stream": (False, "leave it out: this backend does not stream"),
    "stream_options": (None, "leave it out: stream=FUNCTION sets it"),
    "prompt_logprobs": (None, "leave it out: a reply cannot contain them"),
    "audio": (None, "leave it out: a reply is text"),
    "modalities": (["text"], "leave it out: a reply is text"),
    "echo": (False, "leave it out: a reply is what the model wrote"),
    "use_beam_search": (False, "leave it out: a reply is one answer"),
    "return_token_ids": (False, "leave it out: a reply is text"),
}
"""Parameters whose effect a `Reply` cannot show, each with its neutral value and the alternative."""


OWN = frozenset({"extra_body", "model", "messages", "n", "stream", "max_tokens", "max_completion_tokens"})
"""Parameters that ``extra_body`` may not contain: they decide which model gets what, and what a reply can cost."""


class Malformed(ValueError):
    """The answer is not a chat completion; the text gives the reason in a few words."""


class NoJson(Malformed):
    """The answer is not even JSON: its body is truncated, or comes from a proxy in front of the server."""


@attrs.frozen
class Completion:
    """A server's answer.

    ``prompt`` and ``completion`` are its token counts, or None if they are missing or impossible.  ``complaint`` is an
    error that it sent in place of an answer or beside one; the rest is then not an answer.  ``refusal`` is the text
    with which the model refuses to answer.
    """

    text: str = ""
    thoughts: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    more: tuple[str, ...] = ()
    """The texts of the other choices."""
    logprobs: tuple[TokenLogprob, ...] = ()
    refusal: str = ""
    finish: str = "stop"
    model: str = ""
    prompt: int | None = None
    completion: int | None = None
    complaint: Complaint | None = None
    begun: bool = True
    """Whether the model has worked on the request: there is a choice, maybe only beside an error."""

    @property
    def written(self) -> str:
        """Return all that the model wrote, as far as the server shows it."""
        calls = [call.name + call.arguments for call in self.tool_calls]
        return "".join([self.thoughts, self.text, self.refusal, *self.more, *calls])

    @classmethod
    def of(cls, data: object, wanted: int = 1) -> Completion:
        """Return the completion in ``data``, a JSON value, of at most as many choices as ``wanted``.

        Raises `Malformed` for anything else.
        """
        try:
            return cls._of(data, wanted)
        except RecursionError:
            raise Malformed("a value that is nested too deeply") from None

    @classmethod
    def _of(cls, data: object, wanted: int) -> Completion:
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], Mapping) and "error" in data[0]:
            data = data[0]  # Gemini's form of an error
        if not isinstance(data, Mapping):
            raise Malformed(f"found {_kind(data)}, expected an object")
        choices = data.get("choices")
        begun = isinstance(choices, list) and bool(choices)
        prompt, completion = _counts(data.get("usage"))
        complaint = _complaint(data)
        if complaint is not None:
            return cls(prompt=prompt, completion=completion, complaint=complaint, begun=begun)
        if not isinstance(choices, list) or not choices:
            raise Malformed("no choices")
        if len(choices) > wanted:
            raise Malformed(f"{len(choices)} choices, expected {'one' if wanted == 1 else wanted}")
        first, *others = [_choice(choice) for choice in choices]
        ends = [choice.finish for choice in (first, *others)]
        return attrs.evolve(
            first,
            more=tuple([choice.text for choice in others]),
            refusal=next((choice.refusal for choice in (first, *others) if choice.refusal), ""),
            # One answer that was withheld or truncated makes the reply so.
            finish=next((end for end in ("content_filter", "length") if end in ends), first.finish),
            model=_short(data.get("model"), "model", LONGEST_NAME),
            prompt=prompt,
            completion=completion,
        )


def _choice(choice: object) -> Completion:
    """Return what one choice says, without the fields of the whole answer."""
    message = _object(choice.get("message") if isinstance(choice, Mapping) else None, "message")
    assert isinstance(choice, Mapping)
    calls = tuple(_tool_calls(message))
    text, thought, refused = _content(message.get("content"))
    thoughts = thought + _reasoning(message)
    refusal = _text(message.get("refusal"), "refusal") or refused
    if not (text or calls or thoughts or refusal):
        for other in ("audio", "images"):
            if message.get(other):
                raise Malformed(f"the message has {other} and no text")
        if "content" not in message:
            raise Malformed("the message has no content")
    said = _short(choice.get("finish_reason"), "finish_reason", LONGEST_FINISH).strip()
    finish = FINISHES.get(said.lower(), said) or ("tool_calls" if calls else "stop")
    return Completion(
        text, thoughts, calls, refusal=refusal, finish=finish, logprobs=tuple(_logprobs(choice.get("logprobs")))
    )


def _logprobs(given: object) -> Iterator[TokenLogprob]:
    """Yield the tokens of a choice with their log probabilities; none if it has none."""
    tokens = given.get("content") if isinstance(given, Mapping) else None
    for token in tokens if isinstance(tokens, list) else ():
        found = _object(token, "token")
        top = found.get("top_logprobs") or []
        try:
            likeliest = {entry["token"]: entry["logprob"] for entry in top}
            yield TokenLogprob(_text(found.get("token"), "a token"), found.get("logprob"), likeliest)
        except (DataError, LookupError, TypeError, AttributeError) as error:
            raise Malformed(f"log probabilities of another form ({error})") from None


def parsed(body: bytes) -> Any:
    """Return the JSON value in ``body``.  Headers are ignored: the first bytes of JSON determine its encoding.

    Raises `NoJson` for anything else, and `Malformed` for a value that is nested too deeply.
    """
    try:
        return json.loads(body)
    except RecursionError:
        raise Malformed("JSON that is nested too deeply") from None
    except ValueError:
        begin = body[:1000].lstrip()
        if begin.startswith((b"data:", b"event:")):
            raise Malformed("an event stream, which was not requested") from None
        raise NoJson("no JSON" if begin else "an empty body") from None


def spread(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of the model ``name`` with those of ``extra_body`` among them.

    Raises `DataError` for an ``extra_body`` that is not a mapping or contains a parameter in `OWN`.  Raises the errors
    of `refuse_unsupported` too.
    """
    own, extra = dict(params), params.get("extra_body") or {}
    own.pop("extra_body", None)
    if not isinstance(extra, Mapping) or OWN & extra.keys():
        raise DataError(
            f"{name}: found extra_body={extra!r:.200}, expected a mapping without {', '.join(sorted(OWN))}.\n"
            "Fix: give these as parameters of their own."
        )
    body = {**own, **extra}
    refuse_unsupported(name, body)
    return body


def refuse_unsupported(name: str, params: Mapping[str, Any]) -> None:
    """Raise `DataError` for the first parameter whose effect would be lost, so that nothing is ignored silently."""
    if choices_wanted(params) > 1 and (beside := next((key for key in ("tools", "logprobs") if params.get(key)), None)):
        raise DataError(f"{name}: found n={params['n']} with {beside}, which are of one answer.\nFix: send n requests.")
    for key, (neutral, instead) in UNSUPPORTED.items():
        value = params.get(key)
        if value is not None and value != neutral:
            raise DataError(f"{name}: found parameter {key}={value!r:.80}, which is not supported.\nFix: {instead}.")


def _kind(value: object) -> str:
    names: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "a bool", type(None): "null"}
    return names.get(type(value), "a number")


def _object(value: object, named: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed(f"the {named} is {_kind(value)}, expected an object")
    return value


def _text(value: object, named: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{named} is {_kind(value)}, expected a text")
    return whole_text(value)


def _short(value: object, named: str, longest: int) -> str:
    text = _text(value, named)
    if len(text) > longest:
        raise Malformed(f"{named} has {len(text)} characters, expected at most {longest}")
    return text


def _complaint(data: Mapping[str, Any]) -> Complaint | None:
    """Return the error in place of an answer or beside one, or None."""
    for name in ("error", "Error", "errors"):
        if data.get(name):
            return Complaint.of_error(data[name])
    status = data.get("base_resp")
    if isinstance(status, Mapping) and status.get("status_code"):  # MiniMax's form
        return Complaint.of_error(status)
    choices = data.get("choices")
    if "error" in (data.get("object"), data.get("type")):
        return Complaint.of_error(data)
    if not choices and any(isinstance(data.get(name), str | list) and data[name] for name in SAYING):
        return Complaint.of_error(data)
    found = (_complaint_of_choice(choice) for choice in (choices if isinstance(choices, list) else ()))
    return next((complaint for complaint in found if complaint is not None), None)


def _complaint_of_choice(choice: object) -> Complaint | None:
    if not isinstance(choice, Mapping):
        return None
    message = choice.get("message")
    for place in (choice, message):
        if isinstance(place, Mapping) and place.get("error"):
            return Complaint.of_error(place["error"])
    for name in ("finish_reason", "native_finish_reason"):
        finish = choice.get(name)
        if isinstance(finish, str):
            word = finish.strip().lower()
            if "error" in word or FINISHES.get(word) == "error":
                return Complaint(500, "", whole_text(f"{name} is {finish!r}"))
    return None


def _counts(usage: object) -> tuple[int | None, int | None]:
    """Return the token counts of prompt and reply; None for an impossible one, which must never be charged."""
    if not isinstance(usage, Mapping):
        return None, None
    prompt, completion = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return prompt, completion


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and is_count(value) else None


def _content(content: object) -> tuple[str, str, str]:
    """Return the text, the reasoning and the refusal of a content, which is a text or a list of parts."""
    if not isinstance(content, list):
        return _text(content, "content"), "", ""
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(whole_text(part))
        elif isinstance(part, Mapping) and kind in ("text", "output_text") and part.get("text") is not None:
            texts.append(_text(part["text"], "a part's text"))
        elif isinstance(part, Mapping) and kind == "refusal":
            refusals.append(_text(part.get("refusal"), "a part's refusal"))
        elif isinstance(part, Mapping) and kind in ("thinking", "reasoning"):
            thought = part.get("thinking", part.get("reasoning", part.get("text")))
            thoughts += [_thought(each) for each in (thought if isinstance(thought, list) else [thought])]
        else:
            # The name is shown whole or not at all, because redaction would miss a part of a key.
            shown = kind if isinstance(kind, str) and len(kind) <= LONGEST_FINISH else _kind(part)
            raise Malformed(f"the content has a part of kind {shown!r}, expected text")
    return "".join(texts), "".join(thoughts), "".join(refusals)


def _reasoning(message: Mapping[str, Any]) -> str:
    """Return the reasoning beside a content, under any of its usual names."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        if message.get(name):
            return _text(message[name], "reasoning")
    details = message.get("reasoning_details")
    return "".join(map(_thought, details)) if isinstance(details, list) else ""


def _thought(part: object) -> str:
    return _text(part.get("text", part.get("summary")) if isinstance(part, Mapping) else part, "a part's thought")


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    given = message.get("tool_calls") or []
    if not isinstance(given, list):
        raise Malformed(f"tool_calls are {_kind(given)}, expected a list")
    older = message.get("function_call")
    for call in [*given, *([{"function": older}] if older else [])]:
        call = _object(call, "tool call")
        function = _object(call.get("function", call.get("custom")), "tool call's function")
        name = _short(function.get("name"), "a tool's name", LONGEST_NAME)
        arguments = function.get("arguments", function.get("input"))
        if not name:
            raise Malformed("a tool call has no name")
        if isinstance(arguments, Mapping):  # some servers parse them
            arguments = json.dumps(arguments)
        yield ToolCall(_short(call.get("id"), "a tool call's id", LONGEST_NAME), name, _text(arguments, "arguments"))
