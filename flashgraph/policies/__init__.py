"""Policies: what to do with stale items, when to release a group, in which order, and who may call the model next.

`flashgraph` exports those that come with it; here are the classes that one's own derive from (docs/policies.md).
"""

from flashgraph.policies.control import Control, Waiting
from flashgraph.policies.staleness import Decision, Rule, Touched

__all__ = ["Control", "Decision", "Rule", "Touched", "Waiting"]
