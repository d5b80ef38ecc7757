"""The pauses of a request after a fault, and its tries, under a virtual clock."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

import flashgraph as fg
from flashgraph.errors import ModelUnavailable, PassingFault, RequestFailed, Throttled, TimedOut
from flashgraph.llm.scripted import ScriptedModel
from flashgraph.run.patience import Patience, patiently, reply_of
from flashgraph.testing import run_virtually


def waited(key: str, *pauses: float | None, backoff: float = 1.0) -> list[float]:
    """Return the pauses between the tries of a request that is throttled so often, each time with the given pause."""
    left, moments = list(pauses), list[float]()

    async def ask() -> str:
        moments.append(anyio.current_time())
        if left:
            raise Throttled("too many requests", pause=left.pop(0), backoff=backoff)
        return "answered"

    async def run() -> str:
        return await patiently(ask, key)

    assert run_virtually(run, backend="trio") == "answered"
    return [later - earlier for earlier, later in pairwise(moments)]


def test_who_meets_no_fault_waits_for_nothing() -> None:
    """A request without a fault has one try and no pause."""
    assert waited("a") == []


def test_pauses_double_up_to_a_minute() -> None:
    """Pauses double up to a minute if the server names none, each with at most a quarter added."""
    found = waited("a", *[None] * 9)
    for pause, least in zip(found, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert least <= pause <= 1.25 * least
    stretched = {round(pause / least, 6) for pause, least in zip(found, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True)}
    assert len(stretched) == 9
    assert max(stretched) > 1.1


def test_pauses_begin_where_the_model_says() -> None:
    """Pauses begin with the model's backoff, even with 0."""
    assert [round(pause) for pause in waited("a", None, None, None, backoff=0.0)] == [0, 0, 0]
    for pause, least in zip(waited("a", None, None, None, backoff=25.0), (25, 50, 60), strict=True):
        assert least <= pause <= 1.25 * least


def test_the_servers_own_pause_is_kept() -> None:
    """The server's own pause is kept, also if it is longer than a minute or 0, with at most a quarter added."""
    found = waited("a", 90.0, 5.0, 0.0)
    assert 90 <= found[0] <= 112.5
    assert 5 <= found[1] <= 6.25
    assert found[2] == 0.0


def test_the_stretch_is_drawn_from_the_key() -> None:
    """The addition is drawn from the key: a replay waits equally long, and two throttled requests do not come back
    together.
    """
    assert waited("a", None, None) == waited("a", None, None)
    assert waited("a", None) != waited("b", None)
    first, second = waited("a", 10.0, 10.0)
    assert first != second


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_patience_ends_after_so_many_tries(tries: int) -> None:
    """The tries are counted for one endpoint; faults at others do not count."""
    patience, error = Patience(), Throttled("never", tries=tries)
    told = [(patience.ends("a", error), patience.ends(f"other {n}", Throttled("never", tries=2))) for n in range(tries)]
    assert told == [(False, False)] * (tries - 1) + [(True, False)]


def test_what_is_the_requests_counts_wherever_it_is_met() -> None:
    """A request's own faults count everywhere, apart from those of an endpoint. Of those, a 429 (full) and a 503
    (failing) count apart.
    """
    patience = Patience()
    late, down = PassingFault(TimedOut("late"), tries=2), PassingFault(ModelUnavailable("down"), tries=2)
    assert [patience.ends("a", late), patience.ends("a", down), patience.ends("b", down)] == [False] * 3
    assert patience.ends("b", late)
    assert not patience.ends("a", Throttled("full", tries=2))
    assert patience.ends("a", down)
    assert patience.ends("a", Throttled("full", tries=2))


def answer(*script: str | Exception) -> tuple[list[str], list[float]]:
    """Return what `reply_of` returns or raises for a model with these answers, and the moments of its tries."""
    moments, found = list[float](), list[str]()

    class Timed(ScriptedModel):
        async def complete(self, *request: object) -> fg.Reply:
            moments.append(anyio.current_time())
            return await super().complete(*request)  # type: ignore[arg-type]  # handed on as it came

    async def run() -> None:
        try:
            found.append((await reply_of(Timed(list(script)), [{"role": "user", "content": "hello"}], {})).text)
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")

    run_virtually(run, backend="trio")
    return found, moments


def test_who_has_no_scheduler_asks_again_too() -> None:
    """`reply_of` tries again until a reply, or until the tries are used up; then it raises the error itself."""
    down, late = PassingFault(ModelUnavailable("down"), pause=8.0), PassingFault(TimedOut("late"), tries=2)
    said, moments = answer(down, late, Throttled("full"), "hello")
    assert (said, len(moments)) == (["hello"], 4)
    assert 8 <= moments[1] <= 10
    assert answer(late, down, late, "never")[0] == ["TimedOut: late"]
    assert answer(*[Throttled("full", tries=3)] * 3)[0] == ["ModelUnavailable: full"]
    assert answer(RequestFailed("no"), "never")[0] == ["RequestFailed: no"]


def test_what_else_it_raises_goes_through() -> None:
    """Other errors pass through at once, from the first try or a later one."""
    fates = [Throttled("later", pause=1.0, tries=9), ValueError("mine")]

    async def ask() -> str:
        raise fates.pop(0)

    async def run() -> None:
        with pytest.raises(ValueError, match="mine"):
            await patiently(ask, "a")
        assert not fates

    run_virtually(run, backend="trio")
