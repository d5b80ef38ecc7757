"""Policies: staleness, release, order and failure rules, control and champion rules, schedules and their settings.

`flashgraph` exports the built-in policies. Derive your own policies from the classes here
(docs/how-to/write-a-policy.md).
"""

from flashgraph.policies.control import Control, Waiting
from flashgraph.policies.staleness import Decision, Rule, Touched

__all__ = ["Control", "Decision", "Rule", "Touched", "Waiting"]
