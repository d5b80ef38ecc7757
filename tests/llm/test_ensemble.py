"""Several models behind one role, outside a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from flashgraph.errors import DataError, MalformedReply, ModelUnavailable, PassingFault, Throttled, TimedOut
from flashgraph.llm.ensemble import Ensemble
from flashgraph.llm.protocol import Model, Reply, Usage
from flashgraph.llm.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]


def saying(name: str) -> ScriptedModel:
    return ScriptedModel(lambda messages: Reply(name, model=name), name=name, limit=3)


def down() -> ScriptedModel:
    return ScriptedModel(lambda messages: ModelUnavailable("down"), name="down")


async def test_it_is_a_model_by_itself() -> None:
    """Its name and limit combine its members', and the request determines which member answers."""
    both = Ensemble(((saying("a"), 3.0), (saying("b"), 1.0)))
    assert isinstance(both, Model)
    assert (both.name, both.limit, both.worst_cost(1, 1)) == ("a + b", 6, 0.0)
    async with both.open():
        replies = [await both.complete([{"role": "user", "content": str(i)}], {}) for i in range(200)]
        again = await both.complete([{"role": "user", "content": "7"}], {})
    shares = Counter(reply.model for reply in replies)
    assert 0.65 <= shares["a"] / 200 <= 0.85
    assert again.model == replies[7].model


async def test_who_is_down_is_passed_over() -> None:
    """A member with an outage is skipped if there is another; else its error is the ensemble's."""
    both = Ensemble(((down(), 1000.0), (saying("b"), 1.0)))
    assert (await both.complete(HELLO, {})).model == "b"
    with pytest.raises(ModelUnavailable):
        await Ensemble(((down(), 1.0), (down(), 1.0))).complete(HELLO, {})


@pytest.mark.parametrize(
    "fault", [Throttled("full", pause=1.0), PassingFault(ModelUnavailable("it keeps answering 503"), pause=1.0)]
)
async def test_who_does_not_take_a_request_is_passed_over(fault: PassingFault) -> None:
    """A member that refuses a request for now is skipped.

    If no other answers, the request may be tried again, although some members have an outage.
    """
    full = ScriptedModel(lambda messages: fault, name="full")
    assert (await Ensemble(((full, 1000.0), (saying("b"), 1.0))).complete(HELLO, {})).model == "b"
    for weights in ((1000.0, 1.0), (1.0, 1000.0)):
        with pytest.raises(type(fault)):
            await Ensemble(((down(), weights[0]), (full, weights[1]))).complete(HELLO, {})


@pytest.mark.parametrize(
    "fault",
    [PassingFault(TimedOut("late"), cut_off=True), PassingFault(MalformedReply("odd"), usage=Usage(1, 2))],
)
async def test_a_try_that_has_cost_something_is_for_who_keeps_the_account(fault: PassingFault) -> None:
    """The fault is raised at once, and the next try goes to another member; an answer resets that order."""
    first = ScriptedModel([fault, fault], name="a")
    three = Ensemble(((down(), 1e9), (first, 1.0), (saying("c"), 1.0)))
    for _ in range(2):
        with pytest.raises(PassingFault) as caught:
            await three.complete(HELLO, {})
        assert caught.value is fault
        assert (await three.complete(HELLO, {})).model == "c"
    assert len(first.calls) == 2


async def test_the_dearest_bounds_the_cost() -> None:
    """A member with an unknown price makes the bound unknown."""

    class Priced(ScriptedModel):
        price: float | None = 0.0

        def worst_cost(self, prompt: int, completion: int) -> float | None:
            return self.price

    cheap, dear = Priced([]), Priced([])
    dear.price = 2.0
    assert Ensemble(((cheap, 1.0), (dear, 1.0))).worst_cost(1, 1) == 2.0
    dear.price = None
    assert Ensemble(((cheap, 1.0), (dear, 1.0))).worst_cost(1, 1) is None


async def test_the_longest_reply_bounds_all() -> None:
    """If each member has a bound; a member without one leaves it to the budget."""

    class Bounded(ScriptedModel):
        params: Mapping[str, Any]

    short, long = Bounded([]), Bounded([])
    short.params, long.params = {"max_tokens": 5}, {"max_completion_tokens": 900}
    assert Ensemble(((short, 1.0), (long, 1.0))).params == {"max_tokens": 900}
    assert Ensemble(((short, 1.0), (saying("a"), 1.0))).params == {}


@pytest.mark.parametrize("members", [(), ((saying("a"), 0.0),)])
async def test_what_is_none(members: tuple[tuple[Model, float], ...]) -> None:
    """An ensemble without members, or with a weight of 0, is refused."""
    with pytest.raises(DataError, match="weights above 0"):
        Ensemble(members)
