"""The simulated server: real HTTP on loopback, on both event loops; its limits in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import attrs
import httpx
import pytest

import flashgraph as fg
from flashgraph.errors import (
    MalformedReply,
    ModelError,
    ModelRefused,
    ModelUnavailable,
    PassingFault,
    RequestFailed,
    Throttled,
)
from flashgraph.llm.http import HttpModel
from flashgraph.llm.protocol import Quota, Reply
from flashgraph.llm.quotas import quotas
from flashgraph.llm.retry import Retry
from flashgraph.llm.serving import HttpRequest, Response, serve_http
from flashgraph.sim import clock
from flashgraph.sim.faults import KINDS, Faults, RateLimit
from flashgraph.sim.model import SimModel
from flashgraph.sim.profiles import PROFILES, Profile
from flashgraph.sim.server import SimServer
from flashgraph.sim.world import SEED_TEXT, World

from .serving import metrics, running

FAST = PROFILES["vllm"].faster(1e6)
ENDLESS = attrs.evolve(PROFILES["vllm"], step=1e6, slots=2)
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello?"}]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until other tasks of this loop make the condition true."""
    with anyio.fail_after(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


def server_of(profile: Profile = FAST, **options: Any) -> SimServer:
    return SimServer(SimModel(profile, World(seed=0).answer), **options)


async def ask(url: str, *, text: str = "hello?", **params: Any) -> Reply:
    model = HttpModel(url, key="")
    async with model.open():
        return await model.complete([{"role": "user", "content": text}], params)


@pytest.mark.anyio
async def test_it_answers_as_the_simulated_model_does() -> None:
    """The server gives the model's text, tokens and finish reason, finds its only model by name, and counts both
    requests."""
    async with running(server_of()) as url:
        replies = [await ask(url), await ask(url, max_tokens=3)]
        counted = await metrics(url)
    model = SimModel(FAST, World(seed=0).answer)
    async with model.open():
        for reply, params in zip(replies, ({}, {"max_tokens": 3}), strict=True):
            expected = await model.complete(HELLO, params)
            assert (reply.text, reply.usage, reply.finish) == (expected.text, expected.usage, expected.finish)
    assert [reply.model for reply in replies] == ["sim", "sim"]
    assert counted["vllm:request_success_total:stop"] == counted["vllm:request_success_total:length"] == 1
    assert counted["vllm:generation_tokens_total"] == sum(reply.usage.completion for reply in replies)


@pytest.mark.anyio
async def test_a_connection_that_closes_frees_its_slot() -> None:
    """Two requests run and one waits. When the two connections close, the third runs, and then nothing does."""
    server = server_of(ENDLESS)
    engine = server.model.engine
    async with running(server) as url:
        async with anyio.create_task_group() as third:
            async with anyio.create_task_group() as first:
                first.start_soon(ask, url)
                first.start_soon(ask, url)
                await until(lambda: engine.running == 2)
                third.start_soon(ask, url)
                await until(lambda: engine.waiting == 1)
                seen = await metrics(url)
                first.cancel_scope.cancel()
            await until(lambda: (engine.running, engine.waiting) == (1, 0))
            third.cancel_scope.cancel()
        await until(lambda: engine.running == 0)
        ended = await metrics(url)
    assert (seen["vllm:num_requests_running"], seen["vllm:num_requests_waiting"]) == (2, 1)
    assert seen["vllm:kv_cache_usage_perc"] > 0
    assert ended["vllm:request_success_total:abort"] == 3
    assert ended["vllm:kv_cache_usage_perc"] == 0


@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        ("429", ModelUnavailable, "429"),
        ("500", ModelUnavailable, "500"),
        ("reset", ModelUnavailable, "no model server answers"),
        ("cut", ModelUnavailable, "no model server answers"),
        ("malformed", MalformedReply, "malformed"),
    ],
)
@pytest.mark.anyio
async def test_faults_reach_the_client(kind: str, expected: type[ModelError], message: str) -> None:
    """Each fault reaches the client as the error of the same fault of a real server."""
    async with running(server_of(faults=Faults({kind: 1.0}))) as url:
        with pytest.raises(PassingFault, match=message) as caught:
            await ask(url)
    assert type(caught.value.final) is expected
    assert isinstance(caught.value, Throttled) == (kind == "429")


@pytest.mark.anyio
async def test_a_refusal_says_when_to_come_again() -> None:
    """A refusal has Retry-After in whole seconds, and OpenAI's form of an error."""
    async with running(server_of(faults=Faults({"429": 1.0}))) as url, httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{url}/v1/chat/completions", json={"messages": HELLO})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.anyio
async def test_a_truncated_reply_is_half_of_it_and_says_so() -> None:
    """A truncated reply has half of its text and tokens, and the finish reason `length`."""
    async with running(server_of()) as url, running(server_of(faults=Faults({"truncated": 1.0}))) as other:
        whole, half = await ask(url), await ask(other)
    assert (half.text, half.truncated) == (whole.text[: len(whole.text) // 2], True)
    assert half.usage.completion == whole.usage.completion // 2


def test_a_stall_is_late_and_a_limit_refuses() -> None:
    """In virtual time, a stalled answer is 60 s late, and a third request within a bucket of two must wait 30 s."""
    body = b'{"messages": [{"role": "user", "content": "x"}]}'

    async def go() -> tuple[float, list[tuple[int, str]]]:
        stalled = server_of(faults=Faults({"stall": 1.0}))
        limited = server_of(requests_per_minute=2)
        async with stalled.model.open(), limited.model.open():
            before = anyio.current_time()
            await stalled.answer(HttpRequest("POST", "/v1/chat/completions", body))
            late, seen = anyio.current_time() - before, list[tuple[int, str]]()
            for pause in (0, 0, 0, 30):
                await anyio.sleep(pause)
                response = await limited.answer(HttpRequest("POST", "/v1/chat/completions", body))
                seen.append((response.status, response.headers.get("retry-after", "")))
        return late, seen

    late, seen = clock.run_virtually(go)
    assert 60 <= late < 61
    assert seen == [(200, ""), (200, ""), (429, "30"), (200, "")]


def test_tokens_of_replies_count_once_they_are_known() -> None:
    """A bucket that a reply overdrew refuses requests until it has filled again."""

    async def go() -> list[float]:
        bucket = RateLimit(600)
        pauses = [bucket.wanting(1)]
        bucket.take(700)
        pauses.append(bucket.wanting(1))
        await anyio.sleep(10.1)
        return [*pauses, bucket.wanting(1)]

    assert clock.run_virtually(go) == [0, pytest.approx(10.1), pytest.approx(0, abs=1e-6)]


@pytest.mark.parametrize("says", [True, False])
def test_rates_are_reported_in_openais_headers(says: bool) -> None:
    """Rates are reported with answers, as of admission, and with refusals; or not at all, as some APIs do."""
    body = b'{"messages": [{"role": "user", "content": "x"}]}'

    async def go() -> list[tuple[Quota, ...]]:
        server = server_of(requests_per_minute=2, tokens_per_minute=6000, says_rates=says)
        async with server.model.open():
            return [quotas((await server.answer(HttpRequest("POST", CHAT, body))).headers) for _ in range(3)]

    one, two, refused = clock.run_virtually(go)
    if not says:
        assert (one, two, refused) == ((), (), ())
        return
    prompt = len(body) // 4
    assert one == (Quota("requests", 2, 1, 30), Quota("tokens", 6000, 6000 - prompt, prompt / 100))
    assert two[0].left == 0
    assert two[0].reset == pytest.approx(60, abs=0.1)
    assert two[1].left < 6000 - 2 * prompt, "the reply to the first counts"
    assert refused[0].left == 0
    assert refused[1].left <= two[1].left


@pytest.mark.anyio
async def test_a_hosted_api_refuses_requests_without_a_slot() -> None:
    """A hosted API answers 429 instead of queueing, and the slot is free again once its client has gone."""
    server = server_of(attrs.evolve(ENDLESS, slots=1, queues=False))
    async with running(server) as url:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, url)
            await until(lambda: server.in_flight == 1)
            with pytest.raises(Throttled, match="429"):
                await ask(url)
            tasks.cancel_scope.cancel()
        await until(lambda: server.in_flight == 0)
    assert server.refused == 1


def test_faults_hit_at_their_rates_and_a_retry_draws_anew() -> None:
    """Faults hit the same requests in any order, and of a request that is repeated 400 times each kind hits its
    share."""
    rates = dict.fromkeys(KINDS, 0.1)
    requests = [f"request {n}".encode() for n in range(400)]
    one, other = Faults(rates, seed=3), Faults(rates, seed=3)
    found = {request: one.drawn(request) for request in requests}
    assert {request: other.drawn(request) for request in requests[::-1]} == found
    again = [one.drawn(requests[0]) for _ in range(400)]
    for drawn in (list(found.values()), again):
        assert all(20 <= drawn.count(kind) <= 60 for kind in KINDS)
        assert 80 <= drawn.count(None) <= 160


@pytest.mark.parametrize(
    ("rates", "message"),
    [({"rest": 0.1}, "did you mean 'reset'"), ({"429": 2.0}, "expected a share"), ({"429": 0.6, "cut": 0.6}, "sum to")],
)
def test_wrong_rates_are_refused(rates: Mapping[str, float], message: str) -> None:
    with pytest.raises(fg.DataError, match=message):
        Faults(rates)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"nonsense", 400, "Expecting value"),
        (b"[]", 400, "JSON object"),
        (b'{"messages": []}', 400, "at least one message"),
        (b'{"messages": [{"role": "user", "content": [1]}]}', 400, "content"),
        (b'{"messages": [{"role": "user", "content": []}]}', 400, "content"),
        (b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', 400, "text or parts"),
        (b'{"messages": ["x"]}', 400, "content"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": "9"}', 400, "max_tokens: found '9'"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stream": true}', 400, "one whole reply"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "big"}', 404, "does not exist"),
    ],
)
@pytest.mark.anyio
async def test_wrong_requests_get_an_error(body: bytes, status: int, message: str) -> None:
    """A wrong request gets an error that says what is wrong, and the connection stays open."""
    async with running(server_of()) as url, httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{url}/v1/chat/completions", content=body)
        assert (await client.get(f"{url}/health")).is_success
        assert (await client.get(f"{url}/v2")).status_code == 404
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


@pytest.mark.anyio
async def test_a_turn_that_only_calls_tools() -> None:
    """An assistant's message without content is a turn of an agent if it calls tools, and else a mistake."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    async with running(server_of()) as url:
        model = HttpModel(url, key="")
        async with model.open():
            reply = await model.complete([*HELLO, said, {"role": "tool", "tool_call_id": "1", "content": "y"}], {})
            assert reply.text
            with pytest.raises(RequestFailed, match="text or parts"):
                await model.complete([{**said, "tool_calls": []}], {})


@pytest.mark.anyio
async def test_an_unknown_model_is_refused_with_the_one_there_is() -> None:
    async with running(server_of(name="tiny")) as url:
        model = HttpModel(url, "tinny", key="")
        async with model.open():
            with pytest.raises(ModelRefused, match="did you mean 'tiny'"):
                await model.complete(HELLO, {})


async def exchanged(url: str, *sent: bytes) -> bytes:
    """Return a server's reply to these bytes, until it closes the connection."""
    address = httpx.URL(url)
    assert address.port is not None
    async with await anyio.connect_tcp(address.host, address.port) as stream:
        for data in sent:
            await stream.send(data)
        answered = b""
        with anyio.fail_after(20):
            async for data in stream:
                answered += data
    return answered


@pytest.mark.anyio
async def test_requests_that_follow_before_the_answer_are_answered_in_turn() -> None:
    """Two requests in one packet on one connection are answered in turn; the second closes it."""
    two = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with running(server_of()) as url:
        answered = await exchanged(url, two)
    assert answered.count(b"HTTP/1.1 200") == 2
    assert answered.index(b'"sim"') < answered.rindex(b"HTTP/1.1 200")


@pytest.mark.anyio
async def test_bytes_that_are_not_http_are_refused() -> None:
    async with running(server_of()) as url:
        assert (await exchanged(url, b"\x00\x01\r\n\r\n")).startswith(b"HTTP/1.1 400")


@pytest.mark.anyio
async def test_a_handler_that_raises_costs_its_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """If a handler raises, its client gets a 500, the traceback goes to stderr, and the next request is answered."""

    async def handler(request: HttpRequest) -> Response:
        if request.path == "/broken":
            raise RuntimeError("a handler failed")
        return Response()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with anyio.create_task_group() as tasks, httpx.AsyncClient(trust_env=False) as client:
        tasks.start_soon(serve_http, listener, handler)
        statuses = [(await client.get(f"{url}/{path}")).status_code for path in ("broken", "fine")]
        tasks.cancel_scope.cancel()
    assert statuses == [500, 200]
    assert "RuntimeError: a handler failed" in capsys.readouterr().err


@pytest.mark.anyio
async def test_better_instructions_score_better_through_it() -> None:
    """The world's task reads the server's replies: the seed guesses, and an instruction with all rules passes."""
    task, knowing = World(seed=0, val=40).task(), SEED_TEXT + "".join(f" R{rule}!" for rule in range(40))
    scores = []
    async with running(server_of()) as url:
        model = HttpModel(url, key="")

        async def llm(messages: Any, **params: Any) -> Reply:
            return await model.complete(messages, params)

        async with model.open():
            for text in (SEED_TEXT, knowing):
                outputs = [await task.attempt({"instruction": text}, sample, llm) for sample in task.val]
                scores.append(sum(outputs) / len(outputs))
    assert scores[0] < 0.4
    assert scores[1] > 0.8


@pytest.mark.anyio
async def test_gepa_improves_through_it_despite_faults() -> None:
    """A tenth of the requests fails in some way, and the run still finds better instructions."""
    faults = Faults({"500": 0.03, "reset": 0.03, "cut": 0.02, "truncated": 0.01, "malformed": 0.01})
    async with running(server_of(faults=faults)) as url:
        model = HttpModel(url, retry=Retry(backoff=0.001), key="", limit=32)
        world = World(seed=0, train=30, val=12)
        task, models = world.task(), {"task": model, "reflection": model}
        async with fg.open_run("gepa", task, models=models, budget=fg.Budget(proposals=40)) as run:
            result = await run.wait()
    assert result.status == "budget"
    assert result.best is not None
    assert max(world.true_score(a.value["instruction"]) for a in result.artifacts) > 0.2
