"""Any text after ``--set`` or ``--model`` is a value, or one error with a fix."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flashgraph.cli.options import pairs
from flashgraph.errors import DataError
from flashgraph.graph.loading import load_graph
from flashgraph.llm.resolve import resolve
from flashgraph.observe.explanation import explain
from flashgraph.policies.settings import EDGE_SETTINGS, POLICIES, SCHEDULE_SETTINGS
from tests.llm.test_resolve import STRINGS
from tests.text.test_reading_time import A_CHARACTER, lines_run

GEPA = load_graph("gepa")
SPEC = GEPA.spec

NAMES = st.one_of(
    st.sampled_from([*SPEC.params, *SCHEDULE_SETTINGS]),
    st.sampled_from([f"{stage.name}.workers" for stage in SPEC.stages]),
    st.builds("{}.{}".format, st.sampled_from([edge.name for edge in SPEC.edges]), st.sampled_from([*EDGE_SETTINGS])),
    st.text(max_size=8),
    st.sampled_from(["x" * 20_000, "a->b.stale", ".", "->", "validate.", "window.window", "\ud800", "\0"]),
)
ATOMS = st.one_of(
    st.sampled_from(
        ["1", "-1", "0", "0.5", "2", "1e999", "-1e999", "1e-320", "9" * 30, "0x" + "f" * 5000, "9" * 5000, "1j", "None",
         "True", "...", "'x'", "b'x'", "cancel", "amend", "patch", "validate", "[]", "{}", "{[]}", "{{}: 1}", "x.y",
         "1..4", "1.." + "9" * 30, "f'{1}'", "lambda: 1", "\ud800", "\0", "é"]
    ),
    st.sampled_from(sorted(POLICIES)),
    st.text(max_size=6),
)  # fmt: skip
KEYS = st.sampled_from(["above", "times", "least", "window", "share", "interval", "self", "stage", "seconds", "name"])
POLICY = st.sampled_from([*sorted(POLICIES), "fg.discard", "fg.odd", "decided", "os.system"])
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("{}({})".format, POLICY, inner),
        st.builds("{}({}, {}={})".format, POLICY, inner, KEYS, inner),
        st.builds("{} | {}".format, inner, inner),
        st.builds("-{}".format, inner),
        st.builds("({}, {})".format, inner, inner),
    ),
    max_leaves=5,
)
DEEP = [
    "-" * 20_000 + "1", "(" * 90 + "1" + ")" * 90, "[" * 20_000, "~" * 20_000 + "1", "1 | " * 20_000 + "1",
    "a." * 20_000,
    "discard(" * 80 + "1" + ")" * 80, "refresh() | " * 300 + "refresh()", "not " * 20_000 + "1", "x" * 20_000,
    "'" * 20_000, "{1:" * 5000, "1 if 1 else " * 10_000 + "1", "f(**{" * 1000, "#" * 9, "1 #" + "x" * 100,
]  # fmt: skip


def given_setting(text: str) -> str:
    """Return the explanation under ``--set TEXT``, or the error."""
    try:
        chosen = pairs([text])
    except click.UsageError as error:
        return error.format_message()
    return explain(GEPA, "pipelined", chosen)


def ends(act: Any) -> None:
    """Check that ``act`` returns, or raises a user's error that contains a fix."""
    said = "\nFix: "
    try:
        act()
    except DataError as error:
        said = str(error)
    assert "\nFix: " in said
    assert len(said) < 5000


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(NAMES, VALUES)
@example("window", "0x" + "f" * 5000)
def test_any_setting_is_a_value_or_a_mistake(name: str, value: str) -> None:
    ends(lambda: given_setting(f"{name}={value}"))


@pytest.mark.parametrize(
    "name", ["window", "minibatch", "component_selector", "rollout.workers", "validate->frontier.stale"]
)
def test_deep_and_long_settings(name: str) -> None:
    """Deep and long settings take time linear in their length."""
    for value in DEEP:
        text = f"{name}={value}"
        assert lines_run(lambda text=text: ends(lambda: given_setting(text))) <= 400_000 + A_CHARACTER * len(text)  # type: ignore[misc]


@settings(max_examples=300)
@given(STRINGS)
def test_any_model_string_is_a_model_or_a_mistake(spec: str) -> None:
    ends(lambda: resolve(spec))


@pytest.mark.parametrize("part", [
    "?else=replay:a", ",local", "&limit=1", "?", "#", ":", "%", "[", "&extra_body=" + "[" * 100, "&weight=1", "9",
    "&é=", "x", "/", "@", "\\", ".",
])  # fmt: skip
@pytest.mark.parametrize(
    "start", ["openai:http://h#m?limit=1", "replay:r", "local", "litellm:x", "sim:vllm", "x", "http://h"]
)
def test_long_model_strings(start: str, part: str) -> None:
    """Model strings of 3,000 characters take linear time."""
    text = start + part * (3000 // len(part))
    assert lines_run(lambda: ends(lambda: resolve(text))) <= 100_000 + A_CHARACTER * len(text)
