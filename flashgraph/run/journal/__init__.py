"""The journal: the SQLite file that holds a run, and from which it is read and resumed.

- codec: encode values of a graph's types as JSON, and decode them.
- header: the settings that a run was started with, and the effect of a changed graph.
- store: the file: its tables, the one thread that writes, and clear errors.
- writer: a run's turns, calls and admissions as rows.
- examined: the held-out test's calls.
- replay: rebuild a machine from its turns.
- restart: a new journal after the task has changed.
- reading: a run's rows as values, also while the run is active.
"""

from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.header import Header
from flashgraph.run.journal.store import JournalError, Store
from flashgraph.run.journal.writer import JournalWriter

__all__ = ["Codec", "Header", "JournalError", "JournalWriter", "Store"]
