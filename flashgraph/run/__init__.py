"""Running a graph: a plan, a pure state machine that decides, and one task group that carries it out."""
