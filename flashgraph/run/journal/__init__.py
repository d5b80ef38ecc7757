"""The journal: one SQLite file that holds all of a run, from which it is read and resumed.

codec     values of a graph's types as JSON and back, long texts once
header    what a run was started with, and what a changed graph means for it
store     the file: its tables, the one thread that writes, clear errors
writer    a run's turns, calls and admissions as rows
examined  the held-out test's calls
replay    the machine as it was, from its turns
reading   a run's rows as values, also while it goes on
"""

from flashgraph.run.journal.codec import Codec
from flashgraph.run.journal.header import Header
from flashgraph.run.journal.store import JournalError, Store
from flashgraph.run.journal.writer import JournalWriter

__all__ = ["Codec", "Header", "JournalError", "JournalWriter", "Store"]
