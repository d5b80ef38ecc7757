"""The live page of stored runs: a server that only reads journals, a page of plain modules, and its exports."""
