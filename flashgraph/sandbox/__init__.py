"""Run code that a language model wrote, where it can do no harm: `Sandbox`.

The trusted side (this package) starts warm servers under bubblewrap (`jail`, `worker`).  For each call it talks to one
child (`call`); `guest` runs on the other side.  docs/explanation/sandbox.md states the guarantees.
"""

from __future__ import annotations

from flashgraph.sandbox.limits import SandboxLimits
from flashgraph.sandbox.outcome import CandidateFailed, Ran
from flashgraph.sandbox.pool import Sandbox

__all__ = ["CandidateFailed", "Ran", "Sandbox", "SandboxLimits"]
