"""What a mutant has to get past: the invariant suite alone, or with it the tests of the scheduler and the policies.

`every` and `invariants` run it against the flashgraph that is on the path, in this process and cheapest part first,
and return status 1 at the first thing that notices; what that was is the last line they print.
"""

from __future__ import annotations

import io
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

__all__ = ["SUITES", "every", "invariants"]

Part = tuple[str, int, Callable[[], bool]]

MEMORY = 4 << 30
"""Bytes; a mutant that makes more and more of something has no more to give."""


def _within(seconds: int) -> None:
    """End this process when it needs more than so many seconds of processor time from now on: it goes in circles."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (round(used.ru_utime + used.ru_stime) + seconds, resource.RLIM_INFINITY))


def _hunt(examples: int, states: int) -> bool:
    from hypothesis import settings

    from tests.mutants import hunts

    settings.load_profile("hunts")
    for name, hunt in hunts.hunts(examples, states).items():
        try:
            hunt()
        except Exception as error:
            print(f"invariants: {name}: {type(error).__name__}: {str(error).strip().splitlines()[:1]}", flush=True)
            return False
    return True


def _test(*tests: str) -> bool:
    import pytest

    chosen = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--no-header", "-W", "ignore"]
    with redirect_stdout(io.StringIO()) as said:
        status = pytest.main([*chosen, "-m", "not slow", *tests])
    failed = next((line for line in said.getvalue().splitlines() if line.startswith(("FAILED", "ERROR"))), "?")
    print(f"tests: {failed}" if status else "tests: passed", flush=True)
    return status == 0


APART = ("-k", "not limit_finds and not limit_keeps")
"""Leaves out of tests/run two long runs of limits whose steps have tests of their own."""

FEW, MORE, POLICIES, RUN = (
    ("invariants", 60, partial(_hunt, 8, 60)),
    ("invariants", 240, partial(_hunt, 24, 120)),
    ("tests/policies", 30, partial(_test, "tests/policies")),
    ("tests/run", 90, partial(_test, *APART, "tests/run")),
)
"""Name, processor seconds that it may take, and what it does."""


def _try(parts: Sequence[Part]) -> int:
    """Returns the exit status: 1 when one of them has noticed something."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, seconds, part in parts:
        _within(seconds)
        print(f"{name}: goes in circles", flush=True)
        if not part():
            return 1
    print("nothing has noticed", flush=True)
    return 0


def invariants(module: str) -> int:
    """Try the invariant suite alone, on few examples and then on more; returns the exit status."""
    return _try([FEW, MORE])


def every(module: str) -> int:
    """Try it where ``module`` was changed: its own tests first, which are quick; returns the exit status."""
    *_, package, name = module.split(".")
    own = [str(path) for path in [Path("tests", package, f"test_{name}.py")] if path.exists()]
    first = ((*own, 30, partial(_test, *own)),) if own else ()
    return _try([*first, FEW, *((POLICIES,) if package == "policies" else ()), RUN])


SUITES: Mapping[str, Callable[[str], int]] = {"every": every, "invariants": invariants}
