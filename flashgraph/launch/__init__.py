"""How a run is opened, and the handle of a run in progress."""
