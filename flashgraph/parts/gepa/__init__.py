"""The parts of GEPA alone: its pool and its merge."""
