"""How long who is throttled waits before it asks again, under a virtual clock."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest

from flashgraph.errors import Throttled
from flashgraph.run.patience import Patience, patiently
from flashgraph.testing import run_virtually


def waited(key: str, *pauses: float | None, tries: int = 100) -> list[float]:
    """The pauses between the tries of a request that is turned away so often, each time with the pause it is told."""
    left, moments = list(pauses), list[float]()

    async def ask() -> str:
        moments.append(anyio.current_time())
        if left:
            raise Throttled("too many requests", pause=left.pop(0), tries=tries)
        return "answered"

    async def run() -> str:
        return await patiently(ask, key)

    assert run_virtually(run, backend="trio") == "answered"
    return [later - earlier for earlier, later in pairwise(moments)]


def test_who_is_not_throttled_waits_for_nothing() -> None:
    """One try."""
    assert waited("a") == []


def test_pauses_double_up_to_a_minute() -> None:
    """Each stretched by a quarter at most, where the server names none."""
    found = waited("a", *[None] * 9)
    for pause, least in zip(found, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert least <= pause <= 1.25 * least
    stretched = {round(pause / least, 6) for pause, least in zip(found, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True)}
    assert len(stretched) == 9
    assert max(stretched) > 1.1


def test_the_servers_own_pause_is_kept() -> None:
    """Also one that is longer than a minute, or none at all; stretched like the others."""
    found = waited("a", 90.0, 5.0, 0.0)
    assert 90 <= found[0] <= 112.5
    assert 5 <= found[1] <= 6.25
    assert found[2] == 0.0


def test_the_stretch_is_drawn_from_the_key() -> None:
    """A run that is told again waits as long; two requests that were turned away together do not come back together."""
    assert waited("a", None, None) == waited("a", None, None)
    assert waited("a", None) != waited("b", None)
    first, second = waited("a", 10.0, 10.0)
    assert first != second


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_patience_ends_after_so_many_tries(tries: int) -> None:
    """Of one endpoint: what others have said does not count."""
    patience, error = Patience(), Throttled("never", tries=tries)
    told = [(patience.ends("a", error), patience.ends(f"other {n}", Throttled("never", tries=2))) for n in range(tries)]
    assert told == [(False, False)] * (tries - 1) + [(True, False)]


def test_what_else_it_raises_goes_through() -> None:
    """At once, from the first try or a later one."""
    fates = [Throttled("later", pause=1.0, tries=9), ValueError("mine")]

    async def ask() -> str:
        raise fates.pop(0)

    async def run() -> None:
        with pytest.raises(ValueError, match="mine"):
            await patiently(ask, "a")
        assert not fates

    run_virtually(run, backend="trio")
