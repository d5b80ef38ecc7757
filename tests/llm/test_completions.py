"""`Completion` on every shape that servers send and on any JSON: which is a reply and which is malformed."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flashgraph.errors import DataError
from flashgraph.llm.complaints import Complaint
from flashgraph.llm.completions import Completion, Malformed, NoJson, parsed, refuse_unsupported, spread
from flashgraph.llm.protocol import MOST_TOKENS, Reply, ToolCall, Usage


def chat(message: Any = None, usage: Any = None, **more: Any) -> dict[str, Any]:
    """Return a completion with these parts; ``finish`` and ``choices`` replace the usual ones."""
    said = {"role": "assistant", "content": "hi"} if message is None else message
    choice = {"index": 0, "message": said, "finish_reason": more.pop("finish", "stop")}
    return {"choices": [choice], "model": "tiny", "usage": usage, **more}


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "a"}, "a", ""),
        ({"content": None}, "", ""),
        ({"content": ""}, "", ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", ""),
        ({"content": ["a", {"type": "output_text", "text": "b"}]}, "ab", ""),
        ({"content": []}, "", ""),
        ({"content": "a", "reasoning_content": "because"}, "a", "because"),
        ({"content": "a", "reasoning": "because"}, "a", "because"),
        ({"reasoning_content": "because"}, "", "because"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "because"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "because",
        ),
        ({"content": [{"type": "thinking", "thinking": "because"}, "a"]}, "a", "because"),
        ({"content": "a", "thinking": "because"}, "a", "because"),
        ({"content": "a", "reasoning_details": [{"text": "be"}, {"summary": "cause"}]}, "a", "because"),
        ({"content": "a", "reasoning": "because", "reasoning_details": [{"text": "because"}]}, "a", "because"),
        ({"content": "\ud800 a \udc00"}, "\ufffd a \ufffd", ""),
        ({"content": "\ud83d\ude00"}, "\U0001f600", ""),
    ],
)
def test_text_and_reasoning(message: Any, text: str, reasoning: str) -> None:
    """All usual shapes are read, and thoughts are not part of the text."""
    said = Completion.of(chat(message))
    assert (said.text, said.thoughts, said.finish, said.complaint) == (text, reasoning, "stop", None)


@pytest.mark.parametrize(
    ("message", "calls"),
    [
        (
            {"content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
            [ToolCall("1", "f", '{"a": 1}')],
        ),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, [ToolCall("", "f", '{"a": 1}')]),
        ({"tool_calls": [{"id": None, "function": {"name": "f"}}]}, [ToolCall("", "f", "")]),
        ({"function_call": {"name": "f", "arguments": "{}"}}, [ToolCall("", "f", "{}")]),
        ({"tool_calls": [{"id": "1", "custom": {"name": "f", "input": "x"}}]}, [ToolCall("1", "f", "x")]),
        ({"content": "a", "tool_calls": []}, []),
        ({"content": "a", "tool_calls": None}, []),
    ],
)
def test_tool_calls(message: Any, calls: list[ToolCall]) -> None:
    """Arguments stay as they were written."""
    assert list(Completion.of(chat(message)).tool_calls) == calls


@pytest.mark.parametrize(
    "message",
    [{"content": None, "refusal": "I will not"}, {"content": [{"type": "refusal", "refusal": "I will not"}]}],
)
def test_a_refusal(message: Any) -> None:
    """A refusal is not text."""
    said = Completion.of(chat(message))
    assert (said.text, said.refusal) == ("", "I will not")


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        (None, "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("sensitive", "content_filter"),
        ("eos", "eos"),
    ],
)
def test_finish_reasons(finish: Any, expected: str) -> None:
    """Finish reasons become OpenAI's words with the same meaning."""
    assert Completion.of(chat(finish=finish)).finish == expected


BAD_COUNTS = [
    -1, -128_400, 2**31, 2**53, 2**63, 10**30, MOST_TOKENS + 1, 1e999, -1e999, math.nan, 0.5, True, False, "12", "", [],
    [3], {}, {"a": 1}, None,
]  # fmt: skip


@pytest.mark.parametrize("count", BAD_COUNTS, ids=repr)
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_cannot_be_true_is_none(field: str, count: Any) -> None:
    """An impossible count is None, and the other one stays."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, field: count}
    expected = {"prompt_tokens": 7, "completion_tokens": 3, field: None}
    said = Completion.of(chat(usage=usage))
    assert [said.prompt, said.completion] == list(expected.values())
    assert said.text == "hi"


@pytest.mark.parametrize("usage", [None, [], [1], "none", 7, True, {}], ids=repr)
def test_a_usage_that_is_none(usage: Any) -> None:
    """An invalid usage counts as missing."""
    said = Completion.of(chat(usage=usage))
    assert (said.prompt, said.completion) == (None, None)


def test_whole_floats_are_counts() -> None:
    """Some servers write 7.0."""
    said = Completion.of(chat(usage={"prompt_tokens": 7.0, "completion_tokens": 3.0}))
    assert (said.prompt, said.completion) == (7, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "found null"),
        ([], "found a list"),
        ("text", "found a text"),
        (7, "found a number"),
        (True, "found a bool"),
        ({}, "no choices"),
        ({"choices": []}, "no choices"),
        ({"choices": {}}, "no choices"),
        ({"choices": None}, "no choices"),
        ({"choices": [None]}, "the message is null"),
        ({"choices": ["a"]}, "the message is null"),
        ({"choices": [{}]}, "the message is null"),
        ({"choices": [{"text": "a"}]}, "the message is null"),
        ({"choices": [{"message": []}]}, "the message is a list"),
        ({"choices": [{"message": {}}]}, "no content"),
        ({"choices": [{"message": {"content": 7}}]}, "content is a number"),
        ({"choices": [{"message": {"content": {}}}]}, "content is an object"),
        ({"choices": [{"message": {"content": [1]}}]}, "a part of kind 'a number'"),
        ({"choices": [{"message": {"content": [{"type": "text"}]}}]}, "a part of kind 'text'"),
        ({"choices": [{"message": {"content": [{"type": "image_url"}]}}]}, "a part of kind 'image_url'"),
        ({"choices": [{"message": {"content": "a"}}] * 2}, "2 choices"),
        (chat({"content": "a", "reasoning_content": []}) | {}, None),
        (chat({"content": "a", "reasoning_content": {"a": 1}}), "reasoning is an object"),
        (chat({"content": "a", "refusal": ["no"]}), "refusal is a list"),
        (chat({"tool_calls": {"a": 1}}), "tool_calls are an object"),
        (chat({"tool_calls": [1]}), "the tool call is a number"),
        (chat({"tool_calls": [{"function": {}}]}), "has no name"),
        (chat({"tool_calls": [{"function": {"name": 1}}]}), "a tool's name is a number"),
        (chat({"tool_calls": [{"function": {"name": "f", "arguments": 1}}]}), "arguments is a number"),
        (chat({"content": None, "audio": {"data": "x"}}), "audio and no text"),
        (chat(finish={}), "finish_reason is an object"),
        (chat(finish=["stop"]), "finish_reason is a list"),
        (chat(finish=1), "finish_reason is a number"),
        (chat(finish="x" * 101), "finish_reason has 101 characters"),
        (chat(model={"id": "tiny"}), "model is an object"),
        (chat(model=["tiny"]), "model is a list"),
        (chat(model="m" * 501), "model has 501 characters"),
    ],
)
def test_what_is_no_completion(data: Any, why: str | None) -> None:
    """It is malformed, with the reason; an empty list of thoughts is valid."""
    if why is None:
        assert Completion.of(data).text == "a"
        return
    with pytest.raises(Malformed, match=why):
        Completion.of(data)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "slow", "code": 429}, 429, "429"),
        ({"message": "slow", "code": "429"}, 429, "429"),
        ({"message": "slow", "code": "rate_limit_exceeded"}, 429, "rate_limit_exceeded"),
        ({"message": "slow", "status": "RESOURCE_EXHAUSTED"}, 429, ""),
        ({"message": "pay", "code": 402}, 402, "402"),
        ({"message": "pay", "code": "insufficient_quota"}, 402, "insufficient_quota"),
        ({"message": "who", "type": "authentication_error"}, 401, "authentication_error"),
        ({"message": "no", "type": "permission_error"}, 403, "permission_error"),
        ({"message": "bad", "type": "invalid_request_error"}, 400, "invalid_request_error"),
        ({"message": "bad", "code": "context_length_exceeded"}, 400, "context_length_exceeded"),
        ({"message": "what", "code": "model_not_found"}, 404, "model_not_found"),
        ({"message": "busy", "type": "overloaded_error"}, 500, "overloaded_error"),
        ({"message": "late", "code": 504}, 504, "504"),
        ({"message": "odd", "code": True}, 500, ""),
        ({"message": "odd", "code": 7}, 500, "7"),
        ({"message": "odd", "code": [], "type": {}}, 500, ""),
        ({"status_code": 503}, 503, ""),
        ("it broke", 500, ""),
        (["it broke"], 500, ""),
        (True, 500, ""),
    ],
)
@pytest.mark.parametrize("where", ["alone", "beside choices", "in the choice"])
def test_an_error_with_status_200(error: Any, status: int, code: str, where: str) -> None:
    """It is never an answer, and has the status of its code."""
    data: Any = {"error": error} if where == "alone" else chat(usage={"prompt_tokens": 7, "completion_tokens": 3})
    if where == "beside choices":
        data["error"] = error
    elif where == "in the choice":
        data["choices"][0]["error"] = error
    said = Completion.of(data)
    assert said.complaint is not None
    assert (said.complaint.status, said.complaint.code, said.begun) == (status, code, where != "alone")
    assert (said.prompt, said.completion) == ((None, None) if where == "alone" else (7, 3))


@pytest.mark.parametrize("error", [None, {}, "", [], False, 0])
def test_no_error(error: Any) -> None:
    """Some servers always send the field."""
    assert Completion.of(chat(error=error)).text == "hi"


@pytest.mark.parametrize(
    "data",
    [
        *[chat(finish=f) for f in ("error", "ERROR", "Error", "network_error", "insufficient_system_resource")],
        {"object": "error", "message": "no", "code": 503},
    ],
)
def test_other_signs_of_an_error(data: Any) -> None:
    """Every usual finish reason for errors, and vLLM's older form, are errors."""
    complaint = Completion.of(data).complaint
    assert complaint is not None
    assert complaint.status >= 500


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (b"", NoJson, "an empty body"),
        (b"  \n", NoJson, "an empty body"),
        (b"not json", NoJson, "no JSON"),
        (b'{"choices": [{"mess', NoJson, "no JSON"),
        (b"<html></html>", NoJson, "no JSON"),
        (b'{"a": "\xff\xfe"}', NoJson, "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", NoJson, "no JSON"),
        (b"[" * 100_000, Malformed, "nested too deeply"),
        (b'{"a":' * 100_000, Malformed, "nested too deeply"),
        (b'data: {"choices": []}\n\ndata: [DONE]\n', Malformed, "an event stream"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bodies_that_are_no_json(body: bytes, kind: type[Malformed], why: str) -> None:
    """The error says what the body is instead; nothing else is raised."""
    with pytest.raises(Malformed, match=why) as caught:
        parsed(body)
    assert type(caught.value) is kind


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_json_says_by_itself_how_it_is_encoded(encoding: str) -> None:
    """The encodings of RFC 8259, and others that the decoder accepts, are read."""
    assert parsed(json.dumps({"a": "é"}).encode(encoding)) == {"a": "é"}


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"n": 2, "tools": [{}]}, "n=2 with tools"),
        ({"n": 2, "logprobs": True}, "n=2 with logprobs"),
        ({"best_of": 2}, "best_of=2"),
        ({"stream": True}, "stream"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
    ],
)
def test_what_a_reply_could_not_show_is_refused_by_name(params: Any, name: str) -> None:
    """The error names the alternative; neutral values are accepted."""
    with pytest.raises(DataError, match=rf"tiny: found (parameter )?{name}.*\nFix: "):
        refuse_unsupported("tiny", {"temperature": 0, **params})
    with pytest.raises(DataError):
        spread("tiny", {"temperature": 0, "extra_body": params})
    refuse_unsupported("tiny", {"n": 1, "stream": False, "logprobs": None, "top_logprobs": None, "max_tokens": 3})


@pytest.mark.parametrize("value", [-1, 2**63, math.nan, math.inf, 0.5, True, "7", None])
def test_usage_is_whole_numbers(value: Any) -> None:
    """Usage is checked, also if a user's own model makes it."""
    with pytest.raises(DataError, match=r"the usage is .*expected a whole number from 0"):
        Usage(value, 1)
    with pytest.raises(DataError, match="the usage is"):
        Usage(1, value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reply(None),
        lambda: Reply(["a"]),
        lambda: Reply("a", cost=-1.0),
        lambda: Reply("a", cost=math.nan),
        lambda: Reply("a", cost="1"),
        lambda: Reply("a", finish={}),
        lambda: Reply("a", model=None),
        lambda: Reply("a", thoughts=7),
        lambda: Reply("a", tool_calls=["f"]),
    ],
)
def test_a_reply_is_texts_and_amounts(make: Any) -> None:
    """Other types are refused when the reply is made, with the value that was found."""
    with pytest.raises(DataError, match=r"the reply's .*expected"):
        make()


def test_lone_surrogates_end_where_a_reply_is_made() -> None:
    """They are replaced, because journals, files and terminals do not accept them."""
    reply = Reply("a\ud800", finish="\udfff", model="\ud800", tool_calls=[ToolCall("1", "f", "\ud800")])
    assert (reply.text, reply.finish, reply.model) == ("a\ufffd", "\ufffd", "\ufffd")
    assert reply.tool_calls[0].arguments == "\ufffd"


def test_a_complaint_is_one_line_for_people() -> None:
    """Control characters, which would manipulate a terminal, are removed; the text is truncated after redaction."""
    said = Complaint(500, "", "a\x1b]0;title\x07 b\n\n  c\x9b2J " + "d" * 100).cut(20)
    assert said == "a ]0;title b c 2J d…"


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["\ud800", "text", "error", "stop", "content_filter", 2**63, -1, 1e999]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["message", "content", "type", "text", "thinking", "function", "name", "arguments", "code"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
FIELDS = ("choices", "usage", "error", "model", "object", "id")
PARTS = ("content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal")
BODIES = st.one_of(
    JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5),
    st.builds(
        lambda message, finish, usage, more: chat(message, usage, finish=finish, **more),
        st.dictionaries(
            st.sampled_from(["content", "reasoning", "reasoning_content", "tool_calls", "function_call", "refusal"]),
            JSON,
        ),
        JSON,
        st.one_of(JSON, st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), JSON)),
        st.dictionaries(st.sampled_from(["error", "model", "object"]), JSON, max_size=2),
    ),
)


@settings(max_examples=400, deadline=None)
@given(BODIES)
@example({"choices": [{"message": {"content": [{"type": "thinking", "thinking": [["deep"]]}]}}]})
def test_any_json_is_a_completion_or_malformed(data: Any) -> None:
    """Nothing else is raised, and a valid completion makes a sound reply that every later part can hold."""
    try:
        said = Completion.of(json.loads(json.dumps(data)))
    except Malformed:
        return
    if said.complaint is not None:
        assert 400 <= said.complaint.status <= 599
        said.complaint.cut(100).encode()
        return
    usage = Usage.counted(said.prompt, said.completion, {"messages": []}, said.written)
    reply = Reply(said.text, usage, 0.0, said.finish, said.model, thoughts=said.thoughts, tool_calls=said.tool_calls)
    assert 0 <= reply.usage.total <= 2 * MOST_TOKENS
    for text in (reply.text, reply.thoughts, reply.finish, reply.model):
        text.encode()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: b'{"choices": [' + b)))
def test_any_bytes_are_json_or_not(body: bytes) -> None:
    """Nothing else is raised, for replies and for errors."""
    with suppress(Malformed):
        Completion.of(parsed(body))
    Complaint.of_response(500, "Server Error", body).cut(100).encode()
