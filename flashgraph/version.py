"""The version of flashgraph, in a module that the journal can import without the whole package."""

VERSION = "0.1.0"
