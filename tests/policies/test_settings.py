"""Settings: their effect, and the whole message of each wrong one."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import flashgraph as fg
from flashgraph.errors import DataError
from flashgraph.graph.loading import load_graph
from flashgraph.policies.control import balanced
from flashgraph.policies.schedule import Schedule, lockstep, pipelined, throughput
from flashgraph.policies.settings import POLICIES, apply_settings, parse_policy, schedule_of
from tests.graph.parameters import params_like

GEPA = load_graph("gepa").spec
DEFAULTS = {name: param.default for name, param in GEPA.params.items()}
KNOWN = ", ".join(sorted(POLICIES))


def applied(settings: dict[str, Any] | None = None, params: dict[str, Any] | None = None) -> tuple[Schedule, Any]:
    return apply_settings(GEPA, pipelined(), params or {}, settings or {})


def message(settings: dict[str, Any] | None = None, params: dict[str, Any] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        applied(settings, params)
    return str(caught.value)


# ---- what they change ------------------------------------------------------------------------------------


def test_nothing_changes_without_settings() -> None:
    """The schedule stays as it is, and parameters have their defaults."""
    assert applied() == (pipelined(), DEFAULTS)


@pytest.mark.parametrize(
    ("settings", "params", "expected"),
    [
        ({"minibatch": "4"}, {}, {"minibatch": 4}),
        ({"minibatch": 5}, {}, {"minibatch": 5}),
        ({}, {"minibatch": 6}, {"minibatch": 6}),
        ({"perfect_score": "0.5"}, {"minibatch": 6}, {"minibatch": 6, "perfect_score": 0.5}),
        ({"perfect_score": 1}, {}, {"perfect_score": 1}),
        ({"minibatch": "7"}, {"minibatch": 6}, {"minibatch": 7}),
        ({"merge": "true"}, {}, {"merge": True}),
        ({"merge": "False"}, {}, {"merge": False}),
    ],
)
def test_parameters(settings: dict[str, Any], params: dict[str, Any], expected: dict[str, Any]) -> None:
    """They are given from Python or as text; a setting overrides a parameter, and an int can replace a float."""
    assert applied(settings, params)[1] == {**DEFAULTS, **expected}


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        ("fast", "slow and steady", "slow and steady"),
        ("fast", "true", "true"),
        ("fast", "gpt-4", "gpt-4"),
        ("fast", "'7'", "7"),
        ("fast", "7", "7"),
        ("fast", "count", "count"),
        ((1, 2), "(3, 4, 5)", (3, 4, 5)),
        ([], "['a']", ["a"]),
        (True, "False", False),
        (None, "3", 3),
        (None, "x y", "x y"),
    ],
)
def test_text_of_a_parameter_is_read_by_its_default(default: Any, text: str, value: Any) -> None:
    """A string stays as it was typed, with quotes and names of policies."""
    graph = fg.Graph("g", params=params_like({"p": default}))
    assert apply_settings(graph.spec, lockstep(), {}, {"p": text})[1] == {"p": value}


def test_settings_of_the_schedule() -> None:
    """Window, focus and control are given as text or as values."""
    schedule, _ = applied({"window": "16", "focus": 0, "control": "balanced(2)"})
    assert (schedule.window, schedule.focus, schedule.control) == (16, 0, balanced(2))
    assert applied({"control": fg.drain_first()})[0].control == fg.drain_first()


def test_settings_of_stages_and_edges() -> None:
    """They are collected by stage and edge; a later one for the same option replaces the earlier."""
    schedule, _ = applied(
        {
            "validate.workers": "8",
            "trial.workers": "1..32",
            "validate->frontier.stale": "discard(4)",
            "validate->frontier.capacity": 7,
            "validate->frontier.late": "cancel",
            "gate->validate.order": fg.freshest(),
        }
    )
    assert schedule.workers == {"validate": 8, "trial": 32}
    assert schedule.edges == {
        "validate->frontier": {"stale": fg.discard(4), "capacity": 7, "late": "cancel"},
        "gate->validate": {"order": fg.freshest()},
    }


def test_a_setting_may_leave_a_repair_stage_unused() -> None:
    """A stage that becomes unused because of another rule is no mistake."""
    assert applied({"gate->validate.stale": "discard(4)"})[0].edges


def test_a_rule_may_name_a_stage() -> None:
    """A repair rule takes the name of a stage."""
    schedule, _ = applied({"gate->validate.stale": "discard(9) | repair(rebase, above=1, times=2)"})
    assert schedule.edges["gate->validate"]["stale"] == fg.discard(9) | fg.repair("rebase", 1, times=2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("-0.5", -0.5),
        (" 'x' ", "x"),
        ("cancel", "cancel"),
        ("all", fg.everyone()),
        ("everyone", fg.everyone()),
        ("everyone()", fg.everyone()),
        ("fg.everyone", fg.everyone()),
        ("fg.fraction(0.25)", fg.fraction(0.25)),
        ("fg.discard(3) | fg.refresh()", fg.discard(3) | fg.refresh()),
        ("fraction(0.25)", fg.fraction(0.25)),
        ("discard(above=3)", fg.discard(3)),
        ("discriminative", fg.discriminative()),
        ("fail_above(0.2)", fg.fail_above(0.2)),
    ],
)
def test_parse_policy(text: str, value: Any) -> None:
    """It reads literals, names and calls of policies."""
    parsed = parse_policy(text)
    assert str(parsed) == str(value)
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text", ["__import__('os')", "open('x')", "discard.above", "os.fraction(1)", "[x for x in y]", "lambda: 1"]
)
def test_nothing_else_is_evaluated(text: str) -> None:
    """Text from a command line calls only policies."""
    with pytest.raises(DataError):
        parse_policy(text)


def test_schedules_by_name() -> None:
    """It takes a name, or a schedule as it is."""
    for make in (lockstep, pipelined, throughput):
        assert schedule_of(make.__name__) == schedule_of(make()) == make()
        assert str(make()) == make.__name__
    assert throughput().window > pipelined().window


# ---- what cannot be --------------------------------------------------------------------------------------

FITS = "the settings of {0} do not fit graph 'gepa': edge {0}: "

MESSAGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"minibtch": "3"}, {}, "setting 'minibtch' is not known to graph 'gepa'.\nFix: did you mean 'minibatch'?"),
    ({}, {"minibtch": 3}, "parameter 'minibtch' is not known to graph 'gepa'.\nFix: did you mean 'minibatch'?"),
    (
        {}, {"window": 3},
        "parameter 'window' is not known to graph 'gepa'.\nFix: choose from " + ", ".join(sorted(DEFAULTS)),
    ),
    (
        {}, {"minibatch": "4"},
        "parameter minibatch='4' is a str; expected int.\nFix: e.g. minibatch=3.",
    ),
    (
        {"minibatch": "4.5"}, {},
        "parameter minibatch=4.5 is a float; expected int.\nFix: e.g. minibatch=3.",
    ),
    (
        {"minibatch": True}, {},
        "parameter minibatch=True is a bool; expected int.\nFix: e.g. minibatch=3.",
    ),
    ({"window": "0"}, {}, "setting window=0; expected a whole number from 1.\nFix: e.g. window=8."),
    ({"window": "two"}, {}, "setting window='two'; expected a whole number from 1.\nFix: e.g. window=8."),
    ({"window": True}, {}, "setting window=True; expected a whole number from 1.\nFix: e.g. window=8."),
    ({"focus": "1.5"}, {}, "setting focus=1.5; expected a share from 0 to 1.\nFix: e.g. focus=0.5."),
    (
        {"control": "fifo"}, {},
        "setting control=QueueOrder(name='fifo', by=None); expected a control policy.\nFix: e.g. control=drain_first.",
    ),
    (
        {"control": "balanced(0)"}, {},
        "setting control: found interval=0, expected seconds from 0.001.\nFix: balanced(5) adjusts every 5 seconds.",
    ),
    (
        {"control": "balanced('a')"}, {},
        "setting control: found interval='a', expected seconds from 0.001.\nFix: balanced(5) adjusts every 5 seconds.",
    ),
    (
        {"validat.workers": "8"}, {},
        "setting 'validat.workers' names no stage or edge of graph 'gepa'.\nFix: did you mean 'validate.workers'?",
    ),
    (
        {"validate.workers": "0"}, {},
        "setting validate.workers=0; expected a whole number from 1.\nFix: e.g. validate.workers=8.",
    ),
    (
        {"validate->frontier.capacty": "3"}, {},
        "setting 'validate->frontier.capacty': edge 'validate->frontier' has no setting 'capacty'; it has capacity, "
        "late, on_failure, order, release, stale.\nFix: did you mean 'validate->frontier.capacity'?",
    ),
    (
        {"rollout->propose.gather": "False"}, {},
        "setting 'rollout->propose.gather': edge 'rollout->propose' has no setting 'gather'; it has capacity, late, "
        "on_failure, order, release, stale.\nFix: change it in the graph's file.",
    ),
    (
        {"gate.reads": "frontier"}, {},
        "setting 'gate.reads': stage 'gate' has no setting 'reads'; it has workers.\n"
        "Fix: change it in the graph's file.",
    ),
    (
        {"gate.worker": "3"}, {},
        "setting 'gate.worker': stage 'gate' has no setting 'worker'; it has workers.\n"
        "Fix: did you mean 'gate.workers'?",
    ),
    (
        {"gate->validate.order": "fg.priority(len)"}, {},
        "setting gate->validate.order=fg.priority(len): not a value or a policy (priority takes a function: set it "
        f"in the graph's file or from Python); expected a literal, or one of {KNOWN}.\nFix: e.g. freshest.",
    ),
    (
        {"x->y.zzzzzzzz": "3"}, {},
        "setting 'x->y.zzzzzzzz' names no stage or edge of graph 'gepa'.\nFix: choose from STAGE.workers and "
        "EDGE.{capacity,late,on_failure,order,release,stale}, e.g. measure->frontier.stale",
    ),
    (
        {"validate->frontier.stale": "discrd(4)"}, {},
        "setting validate->frontier.stale=discrd(4): not a value or a policy ('discrd(4)' is not one); expected a "
        f"literal, or one of {KNOWN}.\nFix: e.g. discard(4).",
    ),
    (
        {"validate->frontier.release": "fraction"}, {},
        "setting validate->frontier.release=fraction: not a value or a policy (fraction() missing 1 required "
        f"positional argument: 'share'); expected a literal, or one of {KNOWN}.\nFix: e.g. fraction(0.5).",
    ),
    (
        {"validate->frontier.stale": "discard(4"}, {},
        "setting validate->frontier.stale=discard(4: not a value or a policy (it cannot be read); expected a "
        f"literal, or one of {KNOWN}.\nFix: e.g. discard(4).",
    ),
    (
        {"validate->frontier.stale": "4"}, {},
        "setting validate->frontier.stale=4; expected a staleness rule.\n"
        "Fix: e.g. validate->frontier.stale=discard(4).",
    ),
    (
        {"validate->frontier.stale": "discard(-1)"}, {},
        "setting validate->frontier.stale: found above=-1, expected a lag: a whole number from 0.\n"
        "Fix: above=0 acts on every stale item.",
    ),
    (
        {"validate->frontier.release": "fraction('x')"}, {},
        "setting validate->frontier.release=Fraction(share='x', least=1); expected a release rule.\n"
        "Fix: e.g. validate->frontier.release=fraction(0.5).",
    ),
    (
        {"validate->frontier.late": "ammend"}, {},
        "setting validate->frontier.late='ammend'; expected cancel, drop or amend.\n"
        "Fix: e.g. validate->frontier.late=cancel.",
    ),
    (
        {"validate->frontier.on_failure": 0.2}, {},
        "setting validate->frontier.on_failure=0.2; expected a failure rule.\n"
        "Fix: e.g. validate->frontier.on_failure=fail_above(0.2).",
    ),
    (
        {"gate->validate.release": "count(2)"}, {},
        FITS.format("gate->validate") + "found release=count(2) on an edge that gathers nothing; expected gather=True "
        "on the same edge.\nFix: gather=True, or drop release",
    ),
    (
        {"validate->frontier.stale": "refresh"}, {},
        FITS.format("validate->frontier") + "found a refresh rule before pool 'frontier': a pool needs no view; "
        "expected a stage with reads=POOL: refresh hands it the newest view.\n"
        "Fix: fg.discard(above=4) or fg.repair(STAGE)",
    ),
    (
        {"gate->validate.stale": "repair(rebse)"}, {},
        FITS.format("gate->validate") + "found repair(rebse); expected a stage of this graph that takes fg.Stale[T] "
        "and returns fg.Verdict[T].\nFix: did you mean 'rebase'?",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "params", "expected"), MESSAGES, ids=lambda v: str(v)[:40])
def test_the_whole_message(settings: dict[str, Any], params: dict[str, Any], expected: str) -> None:
    """A wrong setting raises with the setting, the expected values, and the nearest correction."""
    assert message(settings, params) == expected


def test_a_schedule_from_python_is_checked() -> None:
    """A window of 0, which would never start a round, is refused."""
    with pytest.raises(DataError) as caught:
        apply_settings(GEPA, pipelined(window=0), {}, {})
    assert str(caught.value) == "setting window=0; expected a whole number from 1.\nFix: e.g. window=8."
    with pytest.raises(DataError, match="setting control: found interval=-1, expected seconds"):
        apply_settings(GEPA, pipelined(control=balanced(-1)), {}, {})


PYTHON: list[tuple[Schedule, str]] = [
    (
        pipelined(workers={"validate": 0}),
        "setting validate.workers=0; expected a whole number from 1.\nFix: e.g. validate.workers=8.",
    ),
    (
        pipelined(workers={"validate": "2"}),  # type: ignore[dict-item]  # what is to be found
        "setting validate.workers='2'; expected a whole number from 1.\nFix: e.g. validate.workers=8.",
    ),
    (
        pipelined(workers={"validat": 2}),
        "setting 'validat.workers' names no stage or edge of graph 'gepa'.\nFix: did you mean 'validate.workers'?",
    ),
    (
        attrs.evolve(pipelined(), edges={"gate->validat": {"order": fg.freshest()}}),
        "setting 'gate->validat.order' names no stage or edge of graph 'gepa'.\n"
        "Fix: did you mean 'gate->validate.order'?",
    ),
    (
        attrs.evolve(pipelined(), edges={"gate->validate": {"gather": True}}),
        "setting 'gate->validate.gather': edge 'gate->validate' has no setting 'gather'; it has capacity, late, "
        "on_failure, order, release, stale.\nFix: change it in the graph's file.",
    ),
    (
        attrs.evolve(pipelined(), edges={"gate->validate": {"capacity": 0}}),
        "setting gate->validate.capacity=0; expected a whole number from 1.\nFix: e.g. gate->validate.capacity=64.",
    ),
]


@pytest.mark.parametrize(("schedule", "expected"), PYTHON, ids=lambda v: str(v)[:40])
def test_stages_and_edges_of_a_schedule_from_python(schedule: Schedule, expected: str) -> None:
    """Its values are checked like settings, which may replace them."""
    with pytest.raises(DataError) as caught:
        apply_settings(GEPA, schedule, {}, {})
    assert str(caught.value) == expected
    assert apply_settings(GEPA, pipelined(workers={"validate": 0}), {}, {"validate.workers": 2})


def test_an_unknown_schedule() -> None:
    """The message offers the nearest name."""
    with pytest.raises(DataError) as caught:
        schedule_of("lockstp")
    assert str(caught.value) == (
        "schedule 'lockstp' is not known; expected one of lockstep, pipelined, throughput.\n"
        "Fix: did you mean 'lockstep'?"
    )
