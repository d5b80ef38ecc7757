"""What a mutant has to get past: the invariant suite, then the tests of the scheduler and the policies.

``python tests/mutants/suite.py`` runs it against the flashgraph that is on the path, cheapest part first, and ends
with status 1 at the first thing that notices; what that was is the last line it prints.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial

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


def _test() -> bool:
    chosen = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--no-header", "-W", "ignore"]
    tests = ["--ignore=tests/run/test_invariants.py", "tests/run", "tests/policies"]
    command = [sys.executable, "-m", "pytest", *chosen, "-m", "not slow", *tests]
    done = subprocess.run(command, capture_output=True, text=True)
    print(f"tests: {done.stdout.strip().splitlines()[-2:]}", flush=True)
    return done.returncode == 0


PARTS: tuple[tuple[str, int, Callable[[], bool]], ...] = (
    ("invariants", 40, partial(_hunt, 8, 60)),
    ("tests", 60, _test),
)
"""Name, processor seconds that it may take, and what it does."""
THOROUGH: tuple[str, int, Callable[[], bool]] = ("invariants", 200, partial(_hunt, 60, 500))
"""What the survivors of the parts have to get past as well, when asked for."""


def main() -> int:
    """Returns the exit status."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    parts = (*PARTS, THOROUGH) if "--thorough" in sys.argv else PARTS
    for name, seconds, part in parts:
        _within(seconds)
        print(f"{name}: goes in circles", flush=True)
        if not part():
            return 1
    print("nothing has noticed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
