"""The parts of island search alone: its pool, and programs as artifacts."""
