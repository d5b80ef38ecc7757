"""`CachedModel`: which replies are cached under which key, and the sharing of requests in flight, in virtual time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import flashgraph as fg
from flashgraph.errors import (
    ContentFiltered,
    DataError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
    TimedOut,
)
from flashgraph.llm.cache import CachedModel, cache_key, cached
from flashgraph.llm.function import FunctionModel
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Message, Model, Quota, Reply, ToolCall, Usage
from flashgraph.llm.resolve import resolve
from flashgraph.llm.responses import ResponseCache, Tally
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.sim.clock import VirtualLoop, run_virtually
from flashgraph.sim.model import SimModel
from tests.llm.server import chat, running

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]
GREEDY = {"temperature": 0}
PAID = Reply("hi", Usage(10, 20), 0.5, model="m")
FREE = Reply("hi", Usage(0, 0), 0.0, model="m")


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"loop_factory": VirtualLoop}), id="asyncio"),
        pytest.param("trio", id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ResponseCache]:
    cache = ResponseCache(tmp_path / "responses.db")
    with cache.open():
        yield cache


def echo(messages: Sequence[Message]) -> str:
    return str(messages[-1]["content"])


def say(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


# ---- cached requests ---------------------------------------------------------------------------------------


async def test_a_second_run_is_free(tmp_path: Path) -> None:
    """Another object on the same file gives the same text, finish and model, without usage, cost or request."""
    path = tmp_path / "responses.db"
    asked, never = ScriptedModel([PAID]), ScriptedModel([])
    first, second = CachedModel(asked, ResponseCache(path)), CachedModel(never, ResponseCache(path))
    async with first.open():
        assert await first.complete(HELLO, GREEDY) == PAID
        assert await first.complete(HELLO, GREEDY) == FREE
    async with second.open():
        assert await second.complete(HELLO, GREEDY) == FREE
    assert (len(asked.calls), len(never.calls)) == (1, 0)
    assert first.cache.tally == Tally(hits=1, misses=1, saved=Usage(10, 20))
    assert second.cache.tally == Tally(hits=1, saved=Usage(10, 20))


async def test_a_hit_can_be_cancelled(cache: ResponseCache) -> None:
    """A hit awaits like every answer, so that a loop over hits lets other tasks run."""
    model = CachedModel(ScriptedModel([PAID]), cache)
    await model.complete(HELLO, GREEDY)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await model.complete(HELLO, GREEDY)
    assert scope.cancelled_caught


async def test_what_an_api_says_of_its_rates_comes_with_its_own_reply_alone(cache: ResponseCache) -> None:
    """Cached and shared replies have no quotas, because their receivers sent nothing."""
    quota = Quota("requests", 60, 59, 1)

    class Says(ScriptedModel):
        async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
            return attrs.evolve(await super().complete(messages, params), quotas=(quota,))

    model, found = CachedModel(Says(["one"], delay=1.0), cache), list[tuple[Quota, ...]]()

    async def one() -> None:
        found.append((await model.complete(HELLO, GREEDY)).quotas)

    async with model.open():
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
        await one()
    assert sorted(found) == [(), (), (), (quota,)]


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0])
async def test_zero_however_it_is_written(cache: ResponseCache, temperature: float) -> None:
    """All spellings of 0 have one key."""
    model = CachedModel(ScriptedModel(["a"]), cache)
    assert (await model.complete(HELLO, GREEDY)).text == "a"
    assert (await model.complete(HELLO, {"temperature": temperature})).text == "a"


@pytest.mark.parametrize(
    "params", [{}, {"temperature": None}, {"temperature": 0.7}, {"temperature": "0"}, {"temperature": False}]
)
async def test_other_temperatures_pass(cache: ResponseCache, params: Mapping[str, Any]) -> None:
    """A missing temperature is the provider's own, which is above 0.  With any_temperature all are stored."""
    model = CachedModel(ScriptedModel(["a", "b"]), cache)
    assert [(await model.complete(HELLO, params)).text for _ in range(2)] == ["a", "b"]
    assert cache.tally == Tally(passed=2)
    asked = CachedModel(ScriptedModel(["c"]), cache, any_temperature=True)
    assert [(await asked.complete(HELLO, params)).text for _ in range(2)] == ["c", "c"]


@attrs.define(eq=False)
class WithDefaults(ScriptedModel):
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)


async def test_the_models_own_parameters_count(cache: ResponseCache) -> None:
    """The request's parameters override the model's, as in the backends; the request itself is unchanged."""
    greedy = WithDefaults(["a", "b", "c"], params={"temperature": 0, "top_p": 1})
    model = CachedModel(greedy, cache)
    assert [(await model.complete(HELLO, {})).text for _ in range(2)] == ["a", "a"]
    assert greedy.calls[0].params == {}
    assert (await model.complete(HELLO, {"temperature": 0, "top_p": 1.0})).text == "a"
    assert (await model.complete(HELLO, {"temperature": 1})).text == "b"
    assert (await model.complete(HELLO, {"temperature": 1})).text == "c"
    warm = CachedModel(WithDefaults(["d", "e"], params={"temperature": 1}), cache)
    assert [(await warm.complete(HELLO, {})).text for _ in range(2)] == ["d", "e"]
    odd = CachedModel(WithDefaults(["f", "g"], params=[("temperature", 0)]), cache)  # type: ignore[arg-type]
    assert [(await odd.complete(HELLO, {})).text for _ in range(2)] == ["f", "g"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("options", "requests"), [("?temperature=0", 1), ("", 2)])
async def test_the_parameters_of_a_model_string(cache: ResponseCache, options: str, requests: int) -> None:
    """``openai:URL#MODEL?temperature=0`` is enough; without it nothing is stored."""
    with running(chat("one"), chat("two")) as server:
        model = CachedModel(resolve(f"openai:{server.url}#tiny{options}"), cache)
        async with model.open():
            for _ in range(2):
                await model.complete(HELLO, {})
        assert len(server.chats) == requests


@pytest.mark.parametrize("text", ["", " \n"])
async def test_what_says_nothing_is_not_kept(cache: ResponseCache, text: str) -> None:
    """An empty reply may be an error that its server did not report."""
    model = CachedModel(ScriptedModel([Reply(text), Reply(text, thoughts="hm"), "whole"]), cache)
    assert [(await model.complete(HELLO, GREEDY)).text for _ in range(4)] == [text, text, "whole", "whole"]


async def test_what_an_older_version_has_kept_and_says_nothing(cache: ResponseCache) -> None:
    """An empty reply that an older version stored is requested again."""
    model = CachedModel(ScriptedModel(["whole"]), cache)
    key = cache_key(model.model, HELLO, GREEDY)
    assert key is not None
    cache.put(key, Reply(""))
    assert (await model.complete(HELLO, GREEDY)).text == "whole"


async def test_calls_of_tools_and_thoughts_are_kept(cache: ResponseCache) -> None:
    """They are stored with the text, or without one."""
    replies = [Reply("", tool_calls=[ToolCall("1", "f", "{}")]), Reply("a", thoughts="b")]
    for number, reply in enumerate(replies):
        model = CachedModel(ScriptedModel([reply]), cache)
        async with model.open():
            asked = [{"role": "user", "content": f"{number}"}]
            found = [await model.complete(asked, GREEDY) for _ in range(2)]
        assert [(one.text, one.thoughts, one.tool_calls) for one in found] == [
            (reply.text, reply.thoughts, reply.tool_calls)
        ] * 2


@pytest.mark.parametrize("finish", ["length", "max_tokens", "abort", "error", "content_filter"])
async def test_what_is_not_finished_is_not_kept(cache: ResponseCache, finish: str) -> None:
    """Truncated replies are not stored, because another try could complete them."""
    model = CachedModel(ScriptedModel([Reply("cu", finish=finish), "whole"]), cache)
    assert [(await model.complete(HELLO, GREEDY)).text for _ in range(3)] == ["cu", "whole", "whole"]


async def test_failures_are_not_kept(cache: ResponseCache) -> None:
    """The next request is sent again."""
    model = CachedModel(ScriptedModel([RequestFailed("no"), "yes"]), cache)
    with pytest.raises(RequestFailed, match="no"):
        await model.complete(HELLO, GREEDY)
    assert (await model.complete(HELLO, GREEDY)).text == "yes"


async def test_parameters_that_are_not_json_pass(cache: ResponseCache) -> None:
    """A class as a response format, or NaN, makes a request uncacheable."""
    model = CachedModel(ScriptedModel(echo), cache)
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    for odd in ({"response_format": Reply}, {"top_p": float("nan")}, {"logit_bias": {1: 2, "1": 3}}, circle):
        assert (await model.complete(HELLO, {**GREEDY, **odd})).text == "hello"
    assert cache.tally == Tally(passed=4)


# ---- keys --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
requests = st.tuples(
    st.sampled_from(["a", "b"]),
    st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": st.text(max_size=3)})),
    st.dictionaries(st.sampled_from(["temperature", "top_p", "stop", "seed"]), json_values),
)


def same(one: Any, other: Any) -> bool:
    """Return whether a server sees the same: equal values of the same types, except that 1 equals 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@settings(max_examples=200, deadline=None)
@given(one=requests, other=requests)
def test_keys_differ_as_requests_do(one: Any, other: Any) -> None:
    """Keys differ by model, messages and parameters."""
    keys = [cache_key(ScriptedModel([], name=name), messages, params) for name, messages, params in (one, other)]
    equal = one[:2] == other[:2] and same(one[2], other[2])
    assert (keys[0] == keys[1]) == equal


@settings(max_examples=100, deadline=None)
@given(request=requests, data=st.data())
def test_the_order_of_parameters_does_not_count(request: Any, data: st.DataObject) -> None:
    """The order of a message's two fields does not matter either."""
    name, messages, params = request
    shuffled = dict(data.draw(st.permutations(list(params.items()))))
    turned = [dict(reversed(list(message.items()))) for message in messages]
    model = ScriptedModel([], name=name)
    assert cache_key(model, messages, params) == cache_key(model, turned, shuffled) is not None


def test_the_address_counts() -> None:
    """Its scheme and path count, which are not in the name; scheme words, limits and prices do not."""
    specs = ["openai:http://h/a/v1#m", "openai:http://h/b/v1#m", "openai:https://h/a/v1#m", "openai:http://h/a/v1#n"]
    keys = {cache_key(resolve(spec), HELLO, GREEDY) for spec in specs}
    assert len(keys) == 4
    assert cache_key(resolve("vllm:http://h/a/v1#m?limit=3&price=1,1"), HELLO, GREEDY) in keys
    assert resolve(specs[0]).name == resolve(specs[1]).name


def test_the_key_is_stable() -> None:
    """Keys must be stable for a cache to be useful; a change of keys needs another KEY_FORMAT."""
    key = cache_key(HttpModel("http://h:1", "m"), HELLO, {"temperature": 0.0, "stop": ["x"]})
    assert key is not None
    assert key.hex() == "c72ff102c5266a3bea8cb426879d3bf617cb0f3efefc02e5d19b7580cb940528"


async def test_functions_need_a_name_of_their_own(cache: ResponseCache) -> None:
    """Closures, methods and edited functions share their default name."""
    texts = iter("abcd")
    model = CachedModel(FunctionModel(lambda _: next(texts)), cache)
    assert [(await model.complete(HELLO, GREEDY)).text for _ in range(2)] == ["a", "b"]
    named = CachedModel(FunctionModel(lambda _: next(texts), name="letters-1"), cache)
    assert [(await named.complete(HELLO, GREEDY)).text for _ in range(2)] == ["c", "c"]


def test_simulated_models_are_asked() -> None:
    """Simulated models are never cached: their latency matters, and one name has many answers."""
    assert cache_key(SimModel.of_profile("vllm"), HELLO, GREEDY) is None


def test_roles_that_share_a_model_still_do(tmp_path: Path) -> None:
    """They share one object and one limit; name, limit and price are the model's."""
    one, two = ScriptedModel([], limit=3), ScriptedModel([], name="other")
    models = cached({"task": one, "judge": one, "reflection": two}, ResponseCache(tmp_path / "c.db"))
    assert models["task"] is models["judge"] is not models["reflection"]
    assert isinstance(models["task"], Model)
    assert (models["task"].name, models["task"].limit, models["task"].worst_cost(1, 1)) == ("scripted", 3, 0.0)


async def test_a_broken_file_is_told_before_the_model_opens(tmp_path: Path) -> None:
    """The error comes first, because starting a server can take minutes."""

    class Slow(ScriptedModel):
        def open(self) -> Any:
            pytest.fail("the model was opened")

    with pytest.raises(DataError, match="it is a folder"):
        async with CachedModel(Slow([]), ResponseCache(tmp_path)).open():
            pass


# ---- in a run --------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Learner(ScriptedModel):
    """A model that is right about the samples that its instruction names, and proposes what its prompt requests.

    Its temperature is 0.
    """

    params: Mapping[str, Any] = attrs.field(default=GREEDY, kw_only=True)


def learn(messages: Sequence[Message]) -> Reply:
    prompt = " ".join(message["content"] for message in messages)
    named = sorted(set(re.findall(r"rule-\d+", prompt)))
    right = len(messages) > 1 and f"rule-{messages[1]['content']}" in named
    text = ("right" if right else "wrong") if len(messages) > 1 else f"```\n{' '.join(named)}\n```"
    return Reply(text, Usage(10, 5), 0.001, model="learner")


async def attempt_number(candidate: Mapping[str, str], sample: int, llm: fg.Llm) -> str:
    system = {"role": "system", "content": candidate["instruction"]}
    return (await llm([system, {"role": "user", "content": str(sample)}])).text


def score_number(sample: int, output: str) -> fg.Score:
    return fg.Score(float(output == "right"), feedback=f"needs rule-{sample}")


def test_a_repeated_run_is_the_same_and_free(tmp_path: Path) -> None:
    """In lockstep with one seed there are as many calls, which use no token and cost nothing."""
    task = fg.Task("numbers", range(12), range(8), attempt=attempt_number, score=score_number)
    results, asked = [], []
    for _ in range(2):
        learner, cache = Learner(learn, limit=2), ResponseCache(tmp_path / "responses.db")
        models = cached({"task": learner, "reflection": learner}, cache)
        budget = fg.Budget(proposals=8, tokens=10**9)
        results.append(fg.run("gepa", task, models=models, schedule="lockstep", budget=budget, seed=3))
        asked.append((len(learner.calls), cache.tally.misses))
    first, second = results
    assert [a.value for a in first.artifacts] == [a.value for a in second.artifacts]
    assert len(first.artifacts) > 1
    assert first.spent.calls == second.spent.calls > 0
    assert (asked[1], second.spent.tokens, second.spent.usd) == ((0, 0), 0, 0.0)
    assert asked[0][0] == asked[0][1]
    assert first.spent.tokens == 15 * asked[0][0]
    assert first.spent.usd == pytest.approx(0.001 * asked[0][0])


# ---- single flight -----------------------------------------------------------------------------------------


@attrs.define
class Client:
    """A request in a scope of its own, with its outcome."""

    model: CachedModel
    messages: Sequence[Message] = HELLO
    params: Mapping[str, Any] = GREEDY
    slots: anyio.CapacityLimiter = attrs.field(factory=lambda: anyio.CapacityLimiter(1))
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    ended: Any = "cancelled"

    async def run(self, start: float = 0) -> None:
        with self.scope:
            await anyio.sleep(start)
            async with self.slots:
                try:
                    self.ended = await self.model.complete(self.messages, self.params)
                except Exception as error:
                    self.ended = error


async def together(*clients: Client) -> None:
    with anyio.fail_after(1000):
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.run)
                await anyio.wait_all_tasks_blocked()  # in the order given


async def test_identical_requests_are_asked_once(cache: ResponseCache) -> None:
    """One request is paid; the others get its reply at no cost."""
    upstream = ScriptedModel([PAID], delay=5)
    clients = [Client(model) for model in 10 * [CachedModel(upstream, cache)]]
    await together(*clients)
    assert [client.ended for client in clients] == [PAID] + 9 * [FREE]
    assert cache.tally == Tally(shared=9, misses=1, saved=Usage(90, 180))


@pytest.mark.parametrize("any_temperature", [True, False])
async def test_samples_are_never_merged(cache: ResponseCache, any_temperature: bool) -> None:
    """Above temperature 0 two requests are two samples."""
    model = CachedModel(ScriptedModel(["a", "b"], delay=5), cache, any_temperature=any_temperature)
    clients = [Client(model, params={"temperature": 1}) for _ in range(2)]
    await together(*clients)
    assert [client.ended.text for client in clients] == ["a", "b"]


async def test_a_cut_off_reply_is_shared_in_flight(cache: ResponseCache) -> None:
    """Waiting callers get it; later ones send the request again."""
    cut = Reply("cu", Usage(1, 2), 0.1, "length")
    model = CachedModel(ScriptedModel([cut, "whole"], delay=5), cache)
    clients = [Client(model), Client(model)]
    await together(*clients)
    assert [client.ended for client in clients] == [cut, Reply("cu", Usage(), 0.0, "length")]
    assert (await model.complete(HELLO, GREEDY)).text == "whole"


@pytest.mark.parametrize("error", [RequestFailed("no"), ModelUnavailable("down"), ModelRefused("key")])
async def test_a_failure_is_shared(cache: ResponseCache, error: Exception) -> None:
    """Each waiting caller gets a copy whose cause is the first caller's error."""
    upstream = ScriptedModel([error], delay=5)
    clients = [Client(model) for model in 3 * [CachedModel(upstream, cache)]]
    await together(*clients)
    assert [(type(c.ended), str(c.ended)) for c in clients] == 3 * [(type(error), str(error))]
    assert [c.ended.__cause__ for c in clients] == [None, error, error]
    assert len({id(c.ended) for c in clients}) == 3


async def test_what_a_shared_failure_has_cost_is_the_askers(cache: ResponseCache) -> None:
    """A withheld reply is paid once."""
    error = ContentFiltered("withheld", usage=Usage(3, 4))
    clients = [Client(model) for model in 2 * [CachedModel(ScriptedModel([error], delay=5), cache)]]
    await together(*clients)
    assert [c.ended.usage for c in clients] == [Usage(3, 4), None]


@pytest.mark.parametrize(
    "fault",
    [
        PassingFault(TimedOut("late"), tries=2, pause=3.0, backoff=2.0, cut_off=True),
        PassingFault(TimedOut("late"), usage=Usage(3, 4)),
        Throttled("full", pause=3.0, tries=2, quotas=[Quota("requests", 60, 59, 1)]),
    ],
)
async def test_a_fault_that_may_pass_is_shared(cache: ResponseCache, fault: PassingFault) -> None:
    """Waiting callers get the fault with its pause and tries, so that none waits for a time-out of its own.

    The cost is the first caller's, who sent the request.
    """
    clients = [Client(model) for model in 3 * [CachedModel(ScriptedModel([fault], delay=5), cache)]]
    await together(*clients)
    assert clients[0].ended is fault
    for found in (client.ended for client in clients[1:]):
        assert (type(found), str(found), type(found.final)) == (type(fault), str(fault), type(fault.final))
        assert (found.pause, found.tries, found.backoff) == (fault.pause, fault.tries, fault.backoff)
        assert (found.usage, found.cut_off, found.quotas) == (None, False, ())
        assert found.final is not fault.final
    assert fault.cut_off or fault.usage or fault.quotas


class Own(RequestFailed):
    """A user's subclass, with arguments of its own."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"{code} {hint}")


class OwnFault(PassingFault):
    """A subclass that may pass."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(RequestFailed(f"{code} {hint}"))


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), Own(3, hint="x"), OwnFault(3, hint="x"), PassingFault(Own(3, hint="x"))]
)
async def test_after_a_bug_the_next_one_asks(cache: ResponseCache, error: Exception) -> None:
    """Each caller gets the error with a traceback of its own, until one succeeds."""
    upstream = ScriptedModel([error, error, PAID], delay=5)
    clients = [Client(model) for model in 4 * [CachedModel(upstream, cache)]]
    await together(*clients)
    assert [client.ended for client in clients].count(error) == 2
    assert [client.ended for client in clients if client.ended is not error] in ([PAID, FREE], [FREE, PAID])
    assert upstream.peak == 1


@attrs.define(eq=False)
class Steps(ScriptedModel):
    """A model whose answer takes ``steps`` turns of the event loop, and no time."""

    steps: int = attrs.field(default=5, kw_only=True)

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        for _ in range(self.steps):
            await anyio.lowlevel.checkpoint()
        return await super().complete(messages, params)


async def test_cancelling_anybody_at_every_await(cache: ResponseCache) -> None:
    """Any two of four are cancelled, each after any number of turns; the others get the reply, and nothing is left."""
    number = itertools.count()

    async def cancel(client: Client, turns: int) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        client.scope.cancel()

    for (one, other), turns, later in itertools.product([(0, 1), (1, 2), (2, 3), (0, 3)], range(14), (0, 1, 7)):
        upstream = Steps(echo)
        model, text = CachedModel(upstream, cache), f"request {next(number)}"
        clients = [Client(model, say(text)) for _ in range(4)]
        with anyio.fail_after(1000):
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    tasks.start_soon(client.run)
                tasks.start_soon(cancel, clients[one], turns)
                tasks.start_soon(cancel, clients[other], turns + later)
        answered = [client.ended.text for client in clients if client.ended != "cancelled"]
        assert len(answered) >= 2
        assert set(answered) == {text}
        assert all(client.ended != "cancelled" for i, client in enumerate(clients) if i not in (one, other))
        assert (upstream.in_flight, upstream.peak, model._flights) == (0, 1, {})
        assert (await model.complete(say(text), GREEDY)).usage == Usage()


# ---- everything, as a property -----------------------------------------------------------------------------

ANSWERS = ("reply", "reply", "cut", "failed", "bug")
_nonce = itertools.count()
_shared: dict[str, ResponseCache] = {}


@attrs.define
class World:
    """A model whose n-th answer to a request is drawn; it counts requests in flight."""

    answers: Mapping[tuple[int, int], str]
    delays: Sequence[float]
    asked: dict[int, int] = attrs.field(factory=dict)
    flying: dict[int, int] = attrs.field(factory=dict)
    most: dict[int, int] = attrs.field(factory=dict)
    peak: int = 0
    name: str = "world"
    limit: int = 3
    given: list[str] = attrs.field(factory=list)

    def open(self) -> Any:
        raise NotImplementedError

    def worst_cost(self, prompt: int, completion: int) -> float | None:
        return 1.0

    async def complete(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Reply:
        which = int(messages[0]["content"].split()[0])
        turn = self.asked[which] = self.asked.get(which, 0) + 1
        self.flying[which] = self.flying.get(which, 0) + 1
        self.most[which] = max(self.most.get(which, 0), self.flying[which])
        self.peak = max(self.peak, sum(self.flying.values()))
        try:
            await anyio.sleep(self.delays[(which + turn) % len(self.delays)])
        finally:
            self.flying[which] -= 1
        how = self.answers.get((which, turn), "reply")
        self.given.append(how)
        if how == "failed":
            raise RequestFailed(str(which))
        if how == "bug":
            raise ZeroDivisionError(str(which))
        return Reply(f"{which}/{turn}", Usage(1, 1), 1.0, "length" if how == "cut" else "stop")


clients = st.lists(
    st.tuples(
        st.integers(0, 2),  # which request: the last is sampled at temperature 1
        st.integers(0, 6).map(float),  # its start
        st.none() | st.integers(0, 12).map(float),  # when it is cancelled
    ),
    max_size=12,
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=150, deadline=None)
@given(
    drawn=clients,
    answers=st.dictionaries(st.tuples(st.integers(0, 2), st.integers(1, 4)), st.sampled_from(ANSWERS)),
    delays=st.lists(st.integers(0, 4).map(float), min_size=1, max_size=3),
    any_temperature=st.booleans(),
)
def test_any_requests_faults_and_cancellations(
    backend: str,
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, float, float | None]],
    answers: dict[tuple[int, int], str],
    delays: list[float],
    any_temperature: bool,
) -> None:
    """Every caller gets an answer to its own request; equal greedy requests are never in flight together.

    The paid replies are those that were sent.
    """
    path = tmp_path_factory.getbasetemp() / "property.db"
    cache, nonce = _shared.setdefault(str(path), ResponseCache(path)), next(_nonce)
    world = World(answers, delays)
    before = cache.tally

    async def play() -> tuple[list[Client], CachedModel]:
        model = CachedModel(world, cache, any_temperature=any_temperature)
        slots = anyio.CapacityLimiter(world.limit)  # as in a scheduler: a slot for each request, waiting or not
        made = [
            Client(model, say(f"{which} {nonce}"), {"temperature": int(which == 2)}, slots) for which, _, _ in drawn
        ]

        async def cancel(client: Client, at: float) -> None:
            await anyio.sleep(at)
            client.scope.cancel()

        with anyio.fail_after(10_000):
            async with anyio.create_task_group() as tasks:
                for client, (_, start, at) in zip(made, drawn, strict=True):
                    tasks.start_soon(client.run, start)
                    if at is not None:
                        tasks.start_soon(cancel, client, at)
        return made, model

    with cache.open():
        made, model = run_virtually(partial(play), backend)
    assert model._flights == {}
    assert sum(world.flying.values()) == 0
    assert world.peak <= world.limit
    assert all(most == 1 for which, most in world.most.items() if which != 2)
    paid = 0
    for client, (which, _, at) in zip(made, drawn, strict=True):
        match client.ended:
            case "cancelled":
                assert at is not None
            case Reply(text=text, usage=usage, cost=cost):
                assert text.startswith(f"{which}/")
                assert (usage, cost) in ((Usage(1, 1), 1.0), (Usage(), 0.0))
                paid += usage.total > 0
            case RequestFailed() | ZeroDivisionError():
                assert str(client.ended) == str(which)
            case other:
                raise AssertionError(other)
    # A reply that arrives at the moment of its cancellation is sent and then lost.
    assert paid <= sum(how in ("reply", "cut") for how in world.given)
    tally = cache.tally
    assert tally.misses + tally.passed - before.misses - before.passed == sum(world.asked.values())
    if any_temperature:
        assert tally.passed == before.passed
