"""Property tests for evolution algorithms: generated graphs, schedules, latencies and faults, and the invariants.

The only importer of hypothesis (extra ``flashgraph[testing]``).
"""
