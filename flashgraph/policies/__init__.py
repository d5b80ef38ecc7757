"""Policies: what to do with stale items, when to release a group, in which order, and who may call the model next.

`flashgraph` exports the policies that come with it.  Own policies derive from the classes here
(docs/how-to/write-a-policy.md).
"""

from flashgraph.policies.control import Control, Waiting
from flashgraph.policies.staleness import Decision, Rule, Touched

__all__ = ["Control", "Decision", "Rule", "Touched", "Waiting"]
