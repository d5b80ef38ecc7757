"""The tests that a mutant must pass: the invariant suite alone, or also the tests of the scheduler and the policies.

`every` and `invariants` run them against the flashgraph on the path, in this process and cheapest part first.  They
return status 1 at the first part that notices the mutant, and their last line names it.
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
"""The memory limit in bytes, for a mutant that allocates without end."""


def _within(seconds: int) -> None:
    """End this process after ``seconds`` more seconds of processor time, for a mutant that loops."""
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
"""Deselect two long runs of limits in tests/run, whose steps have tests of their own."""

FEW, MORE, POLICIES, RUN = (
    ("invariants", 60, partial(_hunt, 8, 60)),
    ("invariants", 240, partial(_hunt, 24, 120)),
    ("tests/policies", 30, partial(_test, "tests/policies")),
    ("tests/run", 90, partial(_test, *APART, "tests/run")),
)
"""Name, processor seconds that it may take, and function of each part."""


def _try(parts: Sequence[Part]) -> int:
    """Return the exit status: 1 if a part has noticed something."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name, seconds, part in parts:
        _within(seconds)
        print(f"{name}: goes in circles", flush=True)
        if not part():
            return 1
    print("nothing has noticed", flush=True)
    return 0


def invariants(module: str) -> int:
    """Try the invariant suite alone, first on few examples and then on more; return the exit status."""
    return _try([FEW, MORE])


def every(module: str) -> int:
    """Try all tests for a change in ``module``, its own quick tests first; return the exit status."""
    *_, package, name = module.split(".")
    own = [str(path) for path in [Path("tests", package, f"test_{name}.py")] if path.exists()]
    first = ((*own, 30, partial(_test, *own)),) if own else ()
    return _try([*first, FEW, *((POLICIES,) if package == "policies" else ()), RUN])


SUITES: Mapping[str, Callable[[str], int]] = {"every": every, "invariants": invariants}
