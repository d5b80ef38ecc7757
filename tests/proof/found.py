"""Defects that the invariants found while flashgraph was made, for the table of the proof.

Each has a test of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["FOUND"]

FOUND: Mapping[str, Sequence[str]] = {
    "I7": (
        "a stage discarded a part of a group as too stale, and its amendment passed the rule (found by an example: "
        "generated groups had no such rule)",
    ),
    "I8": (
        "a group inside a failed or released group was still released (found by I11 on nested groups)",
        "an edge kept an orphan, and its descendants continued on edges that keep none (found by an example: generated "
        "edges kept none)",
        "descendants of a child with complete evidence became orphans when the child's parent was retracted",
        "a group was amended although a retracted artifact was the parent of one of its members (found by a tiny run "
        "whose stages name artifacts)",
    ),
    "I9": (
        "a wake-up was lost after a cancellation that came too late",
        "loop edges were too small for items that multiply at each pass",
        "loop edges were too small for items that an earlier cycle multiplies at each pass (found by the proof on "
        "paper, stalled by the explorer)",
        "a Several could hold more items than its stage declares, and fill a cycle",
        "in lockstep, a job that ended without its request kept its slot from the job before it: the run hung (found "
        "by the state machine)",
        "two gathers of one scatter waited for each other's members: the run hung (found by a reviewer; the proof on "
        "paper had the same hole)",
        "a control policy still adjusted workers after the end, while the last turn was written (found with a slow "
        "disk)",
    ),
    "I11": (
        "groups inside failed groups continued",
        "of groups whose members ended at the same moment, empty ones were released first (found by the whole proof in "
        "one of 1,200 examples)",
    ),
    "I14": (
        "a rounding error left an expired timer in the future, and its order depended on the event loop",
        "the cost of a request that timed out while another was answered depended on the event loop (found by the "
        "whole proof; generated requests now time out in that way)",
    ),
    "I15": (
        "fail_above(0.57) failed a group of 100 at 57 failures, by a rounding error of its share (found by the "
        "reference model of the rule)",
        "a failed group inside another marked its round as failed, although the outer group had contained the failure",
        "keys of an order that do not compare were noticed only when another item left the queue, and the run broke "
        "(found by the reference model of queues)",
    ),
}
