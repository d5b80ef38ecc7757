"""Opening a run, and the handle of a run in progress."""
